"""What of a conversation, and of a prompt, is left out when a context is too small for all of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from icl_align.errors import UserError
from icl_align.prompt import Prompt
from icl_align.types import Example


@dataclass(frozen=True, slots=True)
class Fitted:
    """The text of a conversation that fits, and what it cost.

    Attributes:
        text: The text to send.
        dropped_turns: How many of the oldest turns are not in it.
        dropped_exemplars: How many exemplars are not in it.
    """

    text: str
    dropped_turns: int
    dropped_exemplars: int


@dataclass(frozen=True, slots=True)
class HistoryBudget:
    """What may be left out, in which order.

    URIAL's rule for a conversation is to write its earlier turns as further exemplars behind the
    prompt's own. Where that is too long, the oldest turns go first, one by one; then the exemplars,
    from the first on: in URIAL's prompts the last ones are the core (its K=1 prompt is the last of
    its three exemplars, and icl-alignment puts what it adds before them), and the last stands
    nearest to the query, where retrieval prompts put their best. The system text and the query are
    never left out.

    Attributes:
        keep_turns: So many of the newest turns stay, even where exemplars must go. >= 0.
        keep_exemplars: So many of the last exemplars stay. >= 0.
    """

    keep_turns: int = 0
    keep_exemplars: int = 0

    def __post_init__(self) -> None:
        """Refuses negative counts.

        Raises:
            UserError: naming the field and what was given.
        """
        for name in ("keep_turns", "keep_exemplars"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be >= 0, got {getattr(self, name)}")

    def fit(
        self, prompt: Prompt, example: Example, count_tokens: Callable[[str], int], limit: int
    ) -> Fitted:
        """Renders a conversation with as much of its history, then of the prompt, as fits.

        The text is that of `Prompt.render` for what is left. It takes about log2(turns + exemplars)
        counts, since a text with less in it has fewer tokens.

        Args:
            prompt: The prompt.
            example: The query with its earlier turns.
            count_tokens: Counts the tokens of a text, as the engine sends it.
            limit: Most tokens of the text; a model's context less the tokens of the answer.

        Raises:
            UserError: it is too long without anything that may be left out.
        """
        turns = max(len(example.turns) - self.keep_turns, 0)
        exemplars = max(len(prompt.exemplars) - self.keep_exemplars, 0)

        def text(dropped: int) -> str:
            old, early = min(dropped, turns), max(dropped - turns, 0)
            return _without(prompt, early).render(replace(example, turns=example.turns[old:]))

        def fits(dropped: int) -> int:
            return int(count_tokens(text(dropped)) <= limit)

        dropped = bisect_left(range(turns + exemplars + 1), 1, key=fits)
        if dropped > turns + exemplars:
            least = count_tokens(text(turns + exemplars))
            raise UserError(
                f"what must stay of the conversation has {least} tokens, but only {limit} fit; "
                "shorten the query or the system text, or lower decoding.max_tokens"
            )
        return Fitted(text(dropped), min(dropped, turns), max(dropped - turns, 0))


def _without(prompt: Prompt, dropped: int) -> Prompt:
    """The prompt without its first exemplars."""
    return replace(prompt, exemplars=prompt.exemplars[dropped:], layouts=prompt.layouts[dropped:])
