"""Scores answers by how well their words match a reference's: a BERTScore on a local encoder."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from icl_align.errors import UserError
from icl_align.scorers._folder import digest, encoder_folder
from icl_align.scorers._tokens import TokenEncoder, Tokens, greedy_match
from icl_align.types import Example, Preference, Response, Score

_PAIRS = 32
_REMEMBERED = 256
"""Texts whose token embeddings are kept; at 256 tokens of 384 numbers each, 100 MB."""


class SimilarityScorer:
    """Grades a response by greedily matching its token embeddings with the reference answer's.

    Zhang et al. (1904.09675): F1 of precision (each token of the response against its nearest in the
    reference) and recall (the other way round), rescaled to `clip((F1 - floor) / (1 - floor), 0, 1)`;
    the aspects are precision and recall, rescaled alike. Finer than one embedding of the whole text,
    and no judge of correctness: a wrong number costs one token.

    A response without text is a bad answer, 0; an example without a reference has no verdict. What is
    cut off because the encoder does not read that far is told in the note.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        layer: int | None = None,
        floor: float = 0.3,
        idf: Sequence[str] = (),
        scale: float = 0.1,
        max_tokens: int = 512,
        device: str | None = None,
    ) -> None:
        """Stores the settings; the model is loaded at first use.

        Args:
            model: A folder or Hub id of an encoder; None as in `EmbeddingScorer`.
            layer: The layer whose embeddings are compared, 0 for the words alone; None for the last.
            floor: The F1 that counts as nothing in common, in [-1, 1).
            idf: Texts, usually all references, by whose frequencies rare tokens weigh more; none for
                equal weights. They are part of the fingerprint; see `weighted`.
            scale: Of `prefer`: the difference of values at which the better is preferred with
                probability 0.73, > 0.
            max_tokens: Tokens of a text that are looked at, at most what the model reads. One token's
                place is kept for padding.
            device: A torch device; None for a GPU where there is one, else the CPU.

        Raises:
            UserError: a setting is out of range.
        """
        if not -1 <= floor < 1:
            raise UserError(f"the floor of a similarity term must be in [-1, 1), got {floor}")
        if max_tokens < 4:  # noqa: PLR2004 (two control tokens, one of text, one of padding)
            raise UserError(f"max_tokens of a similarity term must be >= 4, got {max_tokens}")
        if not 0 < scale < math.inf:
            raise UserError(f"the scale of a similarity term must be above 0, got {scale}")
        self.model, self.layer, self.floor, self.idf = model, layer, floor, tuple(idf)
        self.scale, self.max_tokens, self.device = scale, max_tokens, device
        self._known: dict[str, Tokens] = {}

    @property
    def name(self) -> str:
        """The term's name."""
        return "similarity"

    @cached_property
    def fingerprint(self) -> str:
        """The digest of the model's files, and the settings."""
        texts = hashlib.sha256("\0".join(sorted(self.idf)).encode(errors="replace")).hexdigest()
        return (
            f"similarity:1:{digest(encoder_folder(self.model))}:layer={self.layer}:"
            f"floor={self.floor}:scale={self.scale}:max={self.max_tokens}:"
            f"idf={texts[:16] if self.idf else 'none'}"
        )

    def weighted(self, examples: Sequence[Example]) -> SimilarityScorer:
        """Gives a scorer that weighs tokens by how few of these examples' references hold them.

        Raises:
            UserError: none of them has a reference.
        """
        references = [example.answer for example in examples if _text(example.answer)]
        if not references:
            raise UserError("token weights need examples with reference answers, got none")
        return SimilarityScorer(
            self.model,
            layer=self.layer,
            floor=self.floor,
            idf=[answer for answer in references if answer is not None],
            scale=self.scale,
            max_tokens=self.max_tokens,
            device=self.device,
        )

    def score(self, examples: Sequence[Example], responses: Sequence[Response]) -> list[Score]:
        """Grades `responses[i]` against the reference answer of `examples[i]`.

        Raises:
            UserError: the model cannot be had or used.
        """
        pairs = list(zip(examples, responses, strict=True))
        scores: list[Score] = []
        for start in range(0, len(pairs), _PAIRS):
            part = pairs[start : start + _PAIRS]
            known = self._encoded(
                [
                    text
                    for example, response in part
                    if _text(example.answer) and _judged(response)
                    for text in (example.answer or "", response.text)
                ]
            )
            scores += [self._grade(example, response, known) for example, response in part]
        return scores

    def prefer(
        self,
        examples: Sequence[Example],
        first: Sequence[Response],
        second: Sequence[Response],
    ) -> list[Preference]:
        """Prefers what is closer to the reference: `sigmoid((value_1 - value_2) / scale)`.

        The scale is a setting, no fit to people: take the sign as the verdict.

        Raises:
            UserError: the model cannot be had or used.
        """
        one, other = self.score(examples, first), self.score(examples, second)
        return [self._compare(a, b) for a, b in zip(one, other, strict=True)]

    def _compare(self, one: Score, other: Score) -> Preference:
        if one.value is None or other.value is None:
            reason = one.note if one.value is None else other.note
            return Preference(None, note=reason, judge=self.name)
        difference = (one.value - other.value) / self.scale
        value = round(0.5 * (1.0 + math.tanh(difference / 2.0)), 6)
        note = f"similarities {one.value:g} and {other.value:g}"
        cut = next((score.note for score in (one, other) if score.note), "")
        return Preference(value, note=f"{note}; {cut}" if cut else note, judge=self.name)

    def _grade(self, example: Example, response: Response, known: Mapping[str, Tokens]) -> Score:
        if response.finish == "error":
            reason = f"no response: {response.error or 'the engine gave no reason'}"
            return Score(None, note=reason, judge=self.name)
        if not _text(example.answer):
            called = example.id or example.query[:60]
            note = f"example {called!r} has no reference answer"
            return Score(None, note=note, judge=self.name)
        if not response.text.strip():
            return Score(0.0, note="the response is empty", judge=self.name)
        answer, reference = known[response.text], known[example.answer or ""]
        matched = greedy_match(answer, reference, *self._weights)
        if not all(map(math.isfinite, matched)):
            note = "response or reference has no token that counts"
            return Score(None, note=note, judge=self.name)
        precision, recall, value = (self._rescaled(number) for number in matched)
        cut = [w for w, t in (("response", answer), ("reference", reference)) if t.cut]
        note = f"only the beginning of the {' and the '.join(cut)} was read" if cut else ""
        return Score(value, {"precision": precision, "recall": recall}, note, self.name)

    def _rescaled(self, number: float) -> float:
        return round(min(1.0, max(0.0, (number - self.floor) / (1.0 - self.floor))), 6)

    def _encoded(self, texts: Sequence[str]) -> dict[str, Tokens]:
        found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            found |= zip(new, self._encoder.encode(new), strict=True)
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
        self._known |= found
        return found

    @cached_property
    def _encoder(self) -> TokenEncoder:
        return TokenEncoder(
            encoder_folder(self.model),
            layer=self.layer,
            max_tokens=self.max_tokens,
            device=self.device,
        )

    @cached_property
    def _weights(self) -> tuple[dict[int, float] | None, float]:
        """Weights by token id, and that of unseen ones: `ln((N + 1) / (n + 1))`, section 3 of the paper."""
        if not self.idf:
            return None, 1.0
        counts = Counter(token for ids in self._encoder.ids(self.idf) for token in set(ids))
        size = len(self.idf) + 1
        return {t: math.log(size / (n + 1)) for t, n in counts.items()}, math.log(size)


def _text(text: str | None) -> bool:
    return bool(text and text.strip())


def _judged(response: Response) -> bool:
    return response.finish != "error" and bool(response.text.strip())
