"""Logits of given texts, all positions of many texts in one forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from icl_align.engines._alone import Alone
from icl_align.engines._forward import Forward
from icl_align.engines._linear import use_onednn
from icl_align.engines._load import end_tokens, load_model, load_tokenizer
from icl_align.engines._memory import out_of_memory
from icl_align.engines._packed import Packed
from icl_align.engines._prefixes import Prefixes
from icl_align.engines._probe import unsplittable
from icl_align.engines._row import Row
from icl_align.engines._stop import Watcher
from icl_align.engines.hf import HFEngine
from icl_align.errors import UserError
from icl_align.types import Decoding

DTYPES = ("auto", "float64", "float32", "bfloat16", "float16")
_PREFIX_BYTES = 2**30
_SMALL = 50_000_000
"""Most parameters of a model that is read in float64 where nothing else is asked for."""
_ROWS = (64, 256)
"""Rows generated at once, on a CPU and with CUDA."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of tokens whose logits are wanted.

    Attributes:
        before: Token ids that stand before it, at least one.
        tokens: Its own token ids, at least one.
    """

    before: Sequence[int]
    tokens: Sequence[int]


class Reader:
    """A causal language model that reads texts, beginnings shared; loaded when it is made."""

    def __init__(self, model: str, *, device: str = "auto", dtype: str = "auto") -> None:
        """Loads a model.

        Args:
            model: A folder or Hub id.
            device: As `HFEngine` has it.
            dtype: "float64", or as `HFEngine` has it; "auto" is float64 for a small model on a CPU: the
                rounding of float32 alone moves a KL divergence by up to 3e-5 nats.

        Raises:
            UserError: it cannot be loaded, or there is no such device or dtype.
        """
        if dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        place = _place(device)
        self.engine = HFEngine(model, device=device, dtype="auto" if dtype == "float64" else dtype)
        exact = dtype == "auto" and place.type == "cpu"
        if exact:
            dtype = "float32"
        self.id = model
        self.tokenizer = load_tokenizer(model)
        kind = None if dtype == "auto" else getattr(torch, dtype)
        self.model = load_model(model, place, kind)
        if exact and sum(x.numel() for x in self.model.parameters()) <= _SMALL:
            self.model = self.model.double()
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        use_onednn(self.model)
        self._prefixes = Prefixes(_PREFIX_BYTES)
        self._forward = None if unsplittable(self.model) else Forward(self.model, self._prefixes)

    @property
    def vocabulary(self) -> int:
        """How many tokens have logits."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def ends(self) -> frozenset[int]:
        """Its end-of-sequence tokens."""
        return end_tokens(self.model, self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text with the tokenizer's own beginning."""
        return list(self.tokenizer(text)["input_ids"])

    def greedy(
        self, prompts: Sequence[Sequence[int]], stop: Sequence[str], max_tokens: int
    ) -> list[list[int]]:
        """Continues prompts of token ids by the likeliest token; gives the new ids, the end included."""
        rows = [Row(index, list(ids)) for index, ids in enumerate(prompts)]
        watcher, decoding = (
            Watcher(self.tokenizer, stop, self.ends),
            Decoding(max_tokens=max_tokens),
        )
        size = _ROWS[self.model.device.type == "cuda"]
        runner = (
            Alone(self.model) if self._forward is None else Packed(self.model, self._prefixes, size)
        )
        for _ in runner.run(rows, watcher, decoding):
            pass
        return [row.new for row in rows]

    def logits(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """Logits of each part's tokens, each given all before it: (tokens, vocabulary).

        Texts share what they begin with and are read in one pass, but for float64, where each is read in
        a pass of its own: joining shared parts would round to float32.

        Raises:
            UserError: memory does not hold one of them.
        """
        try:
            plain = self._forward is None or self.dtype == "float64"  # parts are joined in float32
            return self._alone(parts) if plain else self._packed(parts)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(parts) == 1:
                tokens = len(parts[0].before) + len(parts[0].tokens)
                raise UserError(
                    f"memory does not hold one text of {tokens} tokens; use shorter texts, or a "
                    f"smaller model than {self.id}"
                ) from error
        self.forget()
        half = len(parts) // 2
        return self.logits(parts[:half]) + self.logits(parts[half:])

    def forget(self) -> None:
        """Forgets what texts have shared so far."""
        self._prefixes.clear()

    def _packed(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """All parts in one pass; what they share is computed once, and remembered."""
        assert self._forward is not None
        rows = [
            Row(index, [*part.before, *part.tokens[:-1]], first=len(part.before) - 1)
            for index, part in enumerate(parts)
        ]
        shared = self._forward.shared(rows)
        wanted: list[int] = []
        at = 0
        for row in rows:
            assert row.first is not None
            wanted += range(at + row.first - row.depth, at + row.own)
            at += row.own
        step, tokens, _ = self._forward.step([], rows, None, shared)
        logits = self._forward.logits(step, tokens, wanted).float()
        self._prefixes.trim()
        return list(logits.split([len(part.tokens) for part in parts]))

    def _alone(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        """One pass a part, for models whose attention cannot be computed in parts."""
        keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        found = []
        for part in parts:
            ids = torch.tensor([[*part.before, *part.tokens[:-1]]], device=self.model.device)
            more: dict[str, Any] = {"logits_to_keep": len(part.tokens)} if keeps else {}
            with torch.inference_mode():
                logits = self.model(input_ids=ids, **more).logits
            found.append(logits[0, -len(part.tokens) :])
        return found


def _place(device: str) -> torch.device:
    """Gives the device of a name; "auto" is CUDA where there is one.

    Raises:
        UserError: this machine, or this build of torch, has none of that name.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"cannot use the device {device!r}: {reason}; give auto, cpu, cuda, cuda:1, ..."
        ) from error
