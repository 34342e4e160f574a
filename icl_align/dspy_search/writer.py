"""Who writes instructions for DSPy's optimisers, and in which form each model is asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from icl_align.scorers._lm_engine import replied
from icl_align.types import Response

_OUTPUT = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)


class TextsLM:
    """A stand-in for a model that writes: it gives texts in turn, and takes no generation.

    An engine in the sense of `dspy.LM(engine=...)`; it reads DSPy's chat format.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Stores the texts; at least one."""
        self.texts = tuple(texts)
        self._given = 0
        self._lock = threading.Lock()

    def next_text(self) -> str:
        """Gives the next text; the first is the optimiser's own, so the second comes first."""
        with self._lock:
            self._given += 1
            return self.texts[self._given % len(self.texts)]

    def complete(self, request: Any) -> Any:
        """Fills in the output fields that a chat of DSPy's asks for."""
        system = request.system or ""
        text = system if isinstance(system, str) else "".join(part.text for part in system)
        wanted = text.partition("Your output fields are:")[2].partition("All interactions")[0]
        parts = [
            f"[[ ## {name} ## ]]\n{self.next_text() if 'instruction' in name else 'Answer:'}"
            for name in _OUTPUT.findall(wanted)
        ]
        return replied(request, Response("\n\n".join([*parts, "[[ ## completed ## ]]"]), 0, "stop"))

    def close(self) -> None:
        """Gives nothing back."""


class ByModel(dspy.Adapter):  # type: ignore[misc]
    """Asks the base model in one form, and any other model as DSPy usually does."""

    def __init__(self, base: Any, adapter: Any) -> None:
        """Stores the base model, whose copies it knows by their engine, and its adapter."""
        super().__init__()
        self.base, self.adapter, self.chat = base, adapter, dspy.ChatAdapter()

    def __call__(
        self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: Any, inputs: Any
    ) -> list[dict[str, Any]]:
        """Hands over to the model's adapter."""
        adapter = self.adapter if lm.engine is self.base.engine else self.chat
        found: list[dict[str, Any]] = adapter(lm, lm_kwargs, signature, demos, inputs)
        return found


def propose_from(writer: TextsLM) -> Callable[..., dict[str, str]]:
    """Gives GEPA's proposer that takes a writer's texts in turn."""

    def propose(
        candidate: dict[str, str], reflective_dataset: Any, components_to_update: list[str]
    ) -> dict[str, str]:
        del candidate, reflective_dataset
        return {name: writer.next_text() for name in components_to_update}

    return propose
