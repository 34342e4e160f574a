"""A prompt on examples: answered by an engine, graded by a scorer, remembered, and compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from icl_align.engines import Engine
from icl_align.errors import UserError
from icl_align.ledger import Ledger, example_digest, response_key, score_key
from icl_align.prompt import Prompt
from icl_align.scorers import Scorer
from icl_align.stats import Interval, paired_bootstrap
from icl_align.types import Example, Response, Score


class Evaluator(Protocol):
    """Grades a prompt on examples, one score each, in order; what a search runs on."""

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]: ...


@dataclass(frozen=True, slots=True)
class Usage:
    """What evaluations have cost so far.

    Attributes:
        paid: Generations computed.
        cached: Generations that a ledger, or an equal row of the same call, gave for nothing.
        prompt_tokens: Prompt tokens of the paid generations.
        reused_tokens: Those of them that were shared and not computed again.
        generated_tokens: Tokens the paid generations produced.
    """

    paid: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(
            self.paid - earlier.paid,
            self.cached - earlier.cached,
            self.prompt_tokens - earlier.prompt_tokens,
            self.reused_tokens - earlier.reused_tokens,
            self.generated_tokens - earlier.generated_tokens,
        )


@runtime_checkable
class Accounted(Protocol):
    """An evaluator that also says what it has cost and what its scores depend on.

    Attributes:
        usage: Running totals.
        identity: Named fingerprints; a study refuses to go on with others.
    """

    @property
    def usage(self) -> Usage: ...

    @property
    def identity(self) -> Mapping[str, str]: ...


class EngineEvaluator:
    """The usual evaluator: an engine answers, a scorer grades, a ledger remembers both.

    Rows go through in chunks, and each chunk is recorded as soon as it is there: a killed process
    loses at most the chunk in flight. Without a ledger nothing is remembered between calls.
    """

    def __init__(
        self, engine: Engine, scorer: Scorer, ledger: Ledger | None = None, *, chunk: int = 64
    ) -> None:
        """Stores the collaborators.

        Args:
            engine: Continues prompts.
            scorer: Grades the parsed answers.
            ledger: Where responses and scores are remembered; None for nowhere.
            chunk: Rows generated and recorded at once, >= 1.

        Raises:
            ValueError: chunk is below 1.
        """
        if chunk < 1:
            raise ValueError(f"chunk must be >= 1, got {chunk}")
        self.engine, self.scorer, self.ledger, self.chunk = (engine, scorer, ledger, chunk)
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        """Running totals since construction."""
        return self._usage

    @property
    def paid(self) -> int:
        """Generations computed since construction."""
        return self._usage.paid

    @property
    def cached(self) -> int:
        """Generations had for nothing since construction."""
        return self._usage.cached

    @property
    def identity(self) -> Mapping[str, str]:
        """Fingerprints of the engine and the scorer."""
        return {"engine": self.engine.fingerprint, "scorer": self.scorer.fingerprint}

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        """Grades the prompt's answers to examples; an answer that failed has no verdict."""
        scores: list[Score] = []
        for start in range(0, len(examples), self.chunk):
            part = examples[start : start + self.chunk]
            scores += self._grade(part, self._answer(prompt, part))
        return scores

    def responses(self, prompt: Prompt, examples: Sequence[Example]) -> list[Response]:
        """Answers examples; `text` is the parsed answer, as a scorer sees it."""
        chunks = (examples[i : i + self.chunk] for i in range(0, len(examples), self.chunk))
        return [response for part in chunks for response in self._answer(prompt, part)]

    def answer(self, prompt: Prompt, queries: Sequence[str]) -> list[Response]:
        """Answers plain queries; `text` is the parsed answer."""
        return self.responses(prompt, [Example(query) for query in queries])

    def _answer(self, prompt: Prompt, examples: Sequence[Example]) -> list[Response]:
        rendered = [prompt.render(example) for example in examples]
        decoding = prompt.decoding
        fingerprint = self.engine.fingerprint
        keys = [response_key(fingerprint, text, prompt.stop, decoding) for text in rendered]
        # A sampled row without a seed is meant to differ each time, so it is never shared.
        repeatable = decoding.temperature == 0 or decoding.seed is not None
        if not repeatable:
            generated = self._generate(rendered, prompt)
            return [_parsed(prompt, response) for response in generated]
        known = self.ledger.responses(keys) if self.ledger else {}
        missing = {key: text for key, text in zip(keys, rendered, strict=True) if key not in known}
        new = dict(zip(missing, self._generate(list(missing.values()), prompt), strict=True))
        if self.ledger:
            self.ledger.put_responses(new)
        self._usage = replace(self._usage, cached=self._usage.cached + len(keys) - len(new))
        return [_parsed(prompt, (known | new)[key]) for key in keys]

    def _generate(self, rendered: list[str], prompt: Prompt) -> list[Response]:
        if not rendered:
            return []
        responses = self.engine.generate(rendered, stop=prompt.stop, decoding=prompt.decoding)
        if len(responses) != len(rendered):
            raise ValueError(
                f"engine {self.engine.name!r} gave {len(responses)} responses "
                f"to {len(rendered)} prompts"
            )
        used = self._usage
        self._usage = Usage(
            used.paid + len(responses),
            used.cached,
            used.prompt_tokens + sum(response.prompt_tokens for response in responses),
            used.reused_tokens + sum(response.reused_tokens for response in responses),
            used.generated_tokens + sum(response.tokens for response in responses),
        )
        return responses

    def _grade(self, examples: Sequence[Example], responses: list[Response]) -> list[Score]:
        fingerprint = self.scorer.fingerprint
        keys = [
            score_key(fingerprint, example, response)
            for example, response in zip(examples, responses, strict=True)
        ]
        known = self.ledger.scores(keys) if self.ledger else {}
        rows = {
            key: (example, response)
            for key, example, response in zip(keys, examples, responses, strict=True)
            if key not in known and response.finish != "error"
        }
        asked = [example for example, _ in rows.values()]
        graded = self.scorer.score(asked, [answer for _, answer in rows.values()]) if rows else []
        if len(graded) != len(rows):
            raise ValueError(
                f"scorer {self.scorer.name!r} gave {len(graded)} scores to {len(rows)} responses"
            )
        new = dict(zip(rows, graded, strict=True))
        if self.ledger:
            self.ledger.put_scores(new)
        scores = known | new
        return [
            _failed(response) if response.finish == "error" else scores[key]
            for key, response in zip(keys, responses, strict=True)
        ]


def _parsed(prompt: Prompt, response: Response) -> Response:
    if response.finish == "error":
        return response
    return replace(response, text=prompt.parse(response.text))


def _failed(response: Response) -> Score:
    return Score(None, note=f"no response: {response.error or 'the engine gave no reason'}")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one prompt over examples.

    Attributes:
        prompt: What was evaluated.
        ids: One id per example, unique, in order.
        scores: One score per example, in order.
    """

    prompt: Prompt
    ids: tuple[str, ...]
    scores: tuple[Score, ...]

    @property
    def values(self) -> list[float]:
        """The verdicts there are, in order."""
        return [score.value for score in self.scores if score.value is not None]

    @property
    def n(self) -> int:
        """How many examples have a verdict."""
        return len(self.values)

    @property
    def missing(self) -> int:
        """How many examples have none."""
        return len(self.scores) - self.n

    @property
    def mean(self) -> float | None:
        """The mean over verdicts, None without any."""
        return math.fsum(self.values) / self.n if self.n else None

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean, None with fewer than two verdicts."""
        return statistics.stdev(self.values) / math.sqrt(self.n) if self.n > 1 else None


def example_ids(examples: Sequence[Example]) -> tuple[str, ...]:
    """Names examples: by their own id, or by the start of their digest where they have none.

    Raises:
        UserError: two examples share an id, so scores could not be told apart.
    """
    ids = tuple(example.id or example_digest(example)[:16] for example in examples)
    repeated = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    if repeated:
        raise UserError(f"example ids must be unique, but {repeated[0]!r} occurs more than once")
    return ids


def evaluate(prompt: Prompt, examples: Sequence[Example], evaluator: Evaluator) -> Evaluation:
    """Evaluates a prompt on examples.

    Raises:
        UserError: two examples share an id.
        ValueError: the evaluator gave another number of scores than examples.
    """
    ids = example_ids(examples)
    scores = tuple(evaluator(prompt, examples))
    if len(scores) != len(ids):
        raise ValueError(f"the evaluator gave {len(scores)} scores to {len(ids)} examples")
    return Evaluation(prompt, ids, scores)


def compare(a: Evaluation, b: Evaluation, *, level: float = 0.95, seed: int | None = 0) -> Interval:
    """Bounds by how much `a` is better than `b`, paired on the examples where both have a verdict.

    Raises:
        UserError: there is no such example.
    """
    other = dict(zip(b.ids, (score.value for score in b.scores), strict=True))
    pairs = [
        (score.value, value)
        for name, score in zip(a.ids, a.scores, strict=True)
        if score.value is not None and (value := other.get(name)) is not None
    ]
    if not pairs:
        raise UserError(
            f"two prompts can only be compared on examples that both have a verdict on; "
            f"of {len(a.ids)} and {len(b.ids)} examples there is none"
        )
    return paired_bootstrap([x for x, _ in pairs], [y for _, y in pairs], level=level, seed=seed)
