"""The frozen values everything else passes around; this module imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length", "error"]
"""Why a generation ended: a stop string or end-of-sequence, the token bound, or a failure."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished exchange of a conversation: what the user asked and what was answered."""

    query: str
    answer: str


@dataclass(frozen=True, slots=True)
class Check:
    """One programmatic test that an answer to an example must pass.

    Attributes:
        kind: A name in `icl_align.scorers.checklist.KINDS`, for example `"contains_all"`.
        values: The kind's string arguments (words to find, bounds as digits, ...).
        weight: Relative weight within the example's checklist, > 0.
        aspect: The name under which the outcome is reported; the kind where empty.
    """

    kind: str
    values: tuple[str, ...] = ()
    weight: float = 1.0
    aspect: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One instruction, with what is known about a good answer to it.

    As an exemplar inside a prompt, `query`, `answer` and `turns` are what counts; as an item to be
    answered, `answer` is the reference and `checks` the programmatic tests.

    Attributes:
        query: The (last) user query.
        answer: The reference answer, or the worked answer of an exemplar; None when there is none.
        id: A stable identifier, unique within one file; empty when the source gave none.
        tags: Free labels for break-downs (task type, topic, difficulty).
        turns: Earlier turns of the conversation, oldest first.
        checks: Programmatic tests of an answer.
    """

    query: str
    answer: str | None = None
    id: str = ""
    tags: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a completion is sampled.

    Attributes:
        temperature: 0 is greedy; otherwise logits are divided by it. >= 0.
        top_p: Nucleus mass in (0, 1]; 1 keeps every token.
        max_tokens: Bound on generated tokens, >= 1.
        repetition_penalty: CTRL's penalty (1909.05858, section 4.1); 1 is none. > 0.
        repetition_scope: Which tokens the penalty looks at. URIAL's engines differed: Hugging Face
            penalises prompt and output, the first vLLM output only. Here "generated" is the default
            and "all" reproduces Hugging Face.
        seed: Seed of sampling; the random stream of a row derives from it and the row's prompt, so it
            does not depend on batch mates or order. None draws a fresh one per call.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    repetition_penalty: float = 1.0
    repetition_scope: Literal["generated", "all"] = "generated"
    seed: int | None = 0

    def __post_init__(self) -> None:
        """Refuses values outside the documented ranges.

        Raises:
            ValueError: naming the field, what was given and the range.
        """
        if not self.temperature >= 0:
            raise ValueError(f"decoding.temperature must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"decoding.top_p must be in (0, 1], got {self.top_p}")
        if self.max_tokens < 1:
            raise ValueError(f"decoding.max_tokens must be >= 1, got {self.max_tokens}")
        if not self.repetition_penalty > 0:
            raise ValueError(
                f"decoding.repetition_penalty must be > 0, got {self.repetition_penalty}"
            )
        if self.repetition_scope not in ("generated", "all"):
            raise ValueError(
                f"decoding.repetition_scope must be 'generated' or 'all', got {self.repetition_scope!r}"
            )


@dataclass(frozen=True, slots=True)
class Response:
    """What an engine generated for one prompt.

    Attributes:
        text: The completion, without the stop string that ended it.
        tokens: Number of generated tokens, the stop string's included.
        finish: Why it ended.
        prompt_tokens: Tokens of the prompt.
        reused_tokens: How many of them were not computed for this row because another row or call
            shared them.
        cached: True when it was read from a ledger and cost nothing.
        error: What went wrong, when `finish` is "error".
    """

    text: str
    tokens: int
    finish: Finish
    prompt_tokens: int = 0
    reused_tokens: int = 0
    cached: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """A grade of one response.

    Attributes:
        value: In [0, 1], or None for "no verdict" (never a stand-in number).
        aspects: Named parts of the value, each in [0, 1].
        note: Why, in words; the reason where value is None.
        judge: Which scorer said so.
    """

    value: float | None
    aspects: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    judge: str = ""

    def __post_init__(self) -> None:
        """Refuses a value that is not a probability-like number.

        Raises:
            ValueError: for a value outside [0, 1] or NaN.
        """
        if self.value is not None and not 0.0 <= self.value <= 1.0:
            raise ValueError(
                f"a score must be in [0, 1] or None, got {self.value} from {self.judge!r}"
            )


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two responses to one example a judge prefers.

    Attributes:
        value: Probability, in [0, 1], that the first response is the better one; 0.5 is a tie, None no
            verdict.
        orders: The same, from the first response's point of view, as the judge said it when the first
            response was shown first, and when it was shown second; empty where only one order was
            asked, or where a judge sees no order.
        note: Why, in words; the reason where value is None.
        judge: Which judge said so.
    """

    value: float | None
    orders: tuple[float, ...] = ()
    note: str = ""
    judge: str = ""

    def __post_init__(self) -> None:
        """Refuses values that are no probabilities.

        Raises:
            ValueError: for a value outside [0, 1] or NaN.
        """
        for value in (self.value, *self.orders):
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"a preference must be in [0, 1] or None, got {value} from {self.judge!r}"
                )


@dataclass(frozen=True, slots=True)
class Usage:
    """What evaluations have cost so far.

    Attributes:
        paid: Generations computed.
        cached: Generations that a ledger, or an equal row of the same call, gave for nothing.
        prompt_tokens: Prompt tokens of the paid generations.
        reused_tokens: Those of them that were shared and not computed again.
        generated_tokens: Tokens the paid generations produced.
        seconds: Wall time that generating them took.
    """

    paid: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, responses: Sequence[Response], seconds: float) -> Usage:
        """What one call of an engine has cost."""
        return cls(
            len(responses),
            0,
            sum(response.prompt_tokens for response in responses),
            sum(response.reused_tokens for response in responses),
            sum(response.tokens for response in responses),
            seconds,
        )

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that had to be computed."""
        return self.prompt_tokens - self.reused_tokens

    @property
    def saved(self) -> float | None:
        """Share of the prompt tokens that sharing spared; None before any."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else None

    def to_json(self) -> dict[str, Any]:
        """Token counts and seconds, as `--json` prints them."""
        return {
            "prompt": self.prompt_tokens,
            "computed": self.computed_tokens,
            "reused": self.reused_tokens,
            "generated": self.generated_tokens,
            "saved": self.saved,
            "seconds": round(self.seconds, 3),
        }

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(*self._pair(other), strict=True)))

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(*(mine - theirs for mine, theirs in zip(*self._pair(earlier), strict=True)))

    def _pair(self, other: Usage) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return astuple(self), astuple(other)


@dataclass(frozen=True, slots=True)
class TokenLogProbs:
    """How likely a model finds the tokens of a given continuation, one entry per token.

    Attributes:
        tokens: Token ids of the continuation.
        logprobs: Natural logarithms of their probabilities, each given all tokens before it.
        ranks: Their places among the whole vocabulary, 1 for the most likely; empty where an engine
            cannot tell.
        prompt_tokens: Tokens of the text before the continuation.
        reused_tokens: How many of them were not computed for this pair because another shared them.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    ranks: tuple[int, ...] = ()
    prompt_tokens: int = 0
    reused_tokens: int = 0
