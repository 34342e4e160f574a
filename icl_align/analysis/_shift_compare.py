"""What two models make of the same tokens: ranks, probabilities, KL both ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from icl_align.analysis._shift_forward import Reader
from icl_align.errors import UserError

_CELLS = 2**21
"""Most logits turned into float64 at once: 16 MiB a table."""
_PROBE = "Hello, it's 2 + 2 = 4!\n\n# Query:\n```\n  caf\u00e9 \u4f60\u597d\n```\n"


@dataclass(frozen=True, slots=True)
class Figures:
    """What base and aligned model make of one token.

    Attributes:
        rank: 1 plus the number of tokens that the base model finds likelier; a tie counts for the token.
        logprob: Natural logarithm of the base model's probability.
        aligned_logprob: That of the aligned model; None where it was not asked.
        aligned_rank: Likewise.
        kl: KL(aligned || base) in nats over the whole vocabulary.
        kl_back: KL(base || aligned).
    """

    rank: int
    logprob: float
    aligned_logprob: float | None = None
    aligned_rank: int | None = None
    kl: float | None = None
    kl_back: float | None = None


def compared(
    base: torch.Tensor, tokens: Sequence[int], aligned: torch.Tensor, size: int
) -> list[Figures]:
    """Figures of tokens, sums in float64, a bounded number of logits at a time.

    Args:
        base: The base model's logits, (tokens, vocabulary).
        tokens: The tokens.
        aligned: The aligned model's logits of the leading ones of these tokens; may have fewer rows.
        size: How many tokens, from id 0, both models know; the others are left out.

    Raises:
        UserError: logits of which no KL divergence can be had.
    """
    rows = max(1, _CELLS // size)
    found: list[Figures] = []
    for at in range(0, len(tokens), rows):
        chosen = tokens[at : at + rows]
        one = _known(base[at : at + rows], chosen, size)
        both = min(len(chosen), max(0, len(aligned) - at))
        if not both:
            found += [
                Figures(rank, logprob) for rank, logprob in zip(one.ranks, one.own, strict=True)
            ]
            continue
        two = _known(aligned[at : at + both], chosen[:both], size)
        kl, back = _kl(two.table, one.table[:both]), _kl(one.table[:both], two.table)
        found += [
            Figures(*values)
            for values in zip(one.ranks, one.own, two.own, two.ranks, kl, back, strict=False)
        ]
        found += [Figures(*values) for values in zip(one.ranks[both:], one.own[both:], strict=True)]
    return found


@dataclass(frozen=True, slots=True)
class _Known:
    """Log-probabilities float64 (tokens, size), and those and the ranks of the given tokens."""

    table: torch.Tensor
    own: list[float]
    ranks: list[int]


def _known(logits: torch.Tensor, tokens: Sequence[int], size: int) -> _Known:
    part = logits[:, :size]
    chosen = torch.tensor(list(tokens), device=part.device)[:, None]
    ranks = (part > part.gather(1, chosen)).sum(1).add(1)
    table = part.double().log_softmax(1)
    return _Known(table, table.gather(1, chosen)[:, 0].tolist(), ranks.tolist())


def _kl(of: torch.Tensor, to: torch.Tensor) -> list[float]:
    """KL(of || to) of each row of log-probabilities, in nats; what has no probability adds nothing."""
    share = of.exp()
    terms = torch.where(share > 0, share * (of - to), 0.0)
    found = terms.sum(1)
    if not bool(found.isfinite().all()):
        raise UserError(
            "a model gives logits that are not finite, so no KL divergence can be had; load both in float32"
        )
    return [float(value) for value in found.clamp(min=0.0)]


def shared_vocabulary(base: Reader, aligned: Reader, texts: Iterable[str]) -> int:
    """Refuses models that do not share a tokenizer; gives how many tokens, from id 0, both know.

    Added tokens (of a chat template, or padding) that only one has are left out; every token that both
    have must have one id, and both must cut the same texts alike.

    Args:
        base: The base model.
        aligned: The aligned one.
        texts: Texts that will be asked.

    Raises:
        UserError: naming what differs.
    """
    reason = _differs(base.tokenizer, aligned.tokenizer, (_PROBE, *texts))
    if reason:
        raise UserError(
            f"{base.id} and {aligned.id} do not share a tokenizer: {reason}; ranks and KL of one "
            "vocabulary mean nothing in another, so compare a base model with a model tuned from it"
        )
    both = base.tokenizer.get_vocab().keys() & aligned.tokenizer.get_vocab().keys()
    last = int(max(base.tokenizer.get_vocab()[token] for token in both))
    return min(base.vocabulary, aligned.vocabulary, last + 1)


def _differs(one: Any, other: Any, texts: Iterable[str]) -> str:
    """Why two tokenizers are not the same; empty where they are."""
    pairs = ((one, other, "base"), (other, one, "aligned"))
    for mine, theirs, name in pairs:
        words, known = mine.get_vocab(), theirs.get_vocab()
        names = {number: word for word, number in known.items()}
        added = mine.get_added_vocab()
        for word, number in sorted(words.items(), key=lambda pair: pair[1]):
            if number != known.get(word, number) or names.get(number, word) != word:
                return (
                    f"id {number} is {word!r} of the {name} one, and "
                    f"{names.get(number, 'no token')!r} of the other"
                )
            if word not in known and word not in added:
                return f"the token {word!r} is in the vocabulary of the {name} one only"
    for text in texts:
        cuts = [x(text, add_special_tokens=False)["input_ids"] for x in (one, other)]
        if cuts[0] != cuts[1]:
            return f"they cut {text[:40]!r} into {len(cuts[0])} and {len(cuts[1])} tokens, or other ones"
    return ""
