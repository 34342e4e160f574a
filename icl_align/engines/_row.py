"""One prompt on its way through engine `hf`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Row:
    """One prompt being continued, or one text being scored.

    Attributes:
        index: Its place in the request.
        ids: Its prompt's token ids; of a text to be scored, all but the last one.
        stream: Seed of its own random stream.
        new: Generated token ids so far.
        first: Of a text to be scored, the place in `ids` from which on logits are wanted.
        depth: How many leading tokens a shared prefix covers.
        charged: How many of these were computed on this row's account.
        order: Its place in the queue.
    """

    index: int
    ids: list[int]
    stream: int = 0
    new: list[int] = field(default_factory=list)
    first: int | None = None
    depth: int = 0
    charged: int = 0
    order: int = 0

    @property
    def most_shared(self) -> int:
        """How many leading tokens may be shared: not those whose logits are wanted."""
        return len(self.ids) - 1 if self.first is None else self.first

    @property
    def own(self) -> int:
        """Tokens behind the shared prefix, generated ones included."""
        return len(self.ids) - self.depth + len(self.new)

    @property
    def reused(self) -> int:
        """Tokens of the prompt that others computed."""
        return self.depth - self.charged
