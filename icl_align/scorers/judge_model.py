"""The language model behind a judge: whatever DSPy reaches, or an engine of ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icl_align.engines._options import check_numbers, check_seconds, check_texts, key_from
from icl_align.engines.load import load_engine
from icl_align.errors import UserError
from icl_align.parts import call_part
from icl_align.types import Usage

if TYPE_CHECKING:
    import dspy

    from icl_align.engines import Engine

MAX_TEMPERATURE = 2.0


class Meter:
    """Adds up what a judge's model has cost, from many threads."""

    def __init__(self) -> None:
        """Starts at nothing."""
        self._lock = threading.Lock()
        self._usage = Usage()

    def add(self, usage: Usage) -> None:
        """Adds a request."""
        with self._lock:
            self._usage += usage

    @property
    def usage(self) -> Usage:
        """All so far; seconds are those of all requests, which may have run side by side."""
        return self._usage


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """A model that judges, and how it is asked.

    Attributes:
        lm: What DSPy calls, as a copy without a cache or retries of its own: DSPy's cache would give an
            unreadable reply again, and that of another engine of the same name.
        identity: Everything that can change its replies; part of each judge's fingerprint.
        engine: Our engine behind `lm`, where there is one: it can score texts too.
        temperature: Of the first attempt. What cannot be read is asked for again with another seed, at
            a temperature of at least 0.7: the same question at temperature 0 has the same answer.
        seed: Of all attempts and samples.
        threads: Most requests at once.
        attempts: Most replies to one question before it counts as unscored.
        retries: How often a request that failed on its way is sent again.
        backoff_s: First wait before that, doubling each time.
        meter: What it has cost.
    """

    lm: dspy.LM = field(repr=False)
    identity: str
    engine: Engine | None = None
    temperature: float = 0.0
    seed: int = 0
    threads: int = 8
    attempts: int = 3
    retries: int = 8
    backoff_s: float = 0.5
    meter: Meter = field(default_factory=Meter, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuses settings that cannot be used.

        Raises:
            UserError: naming the setting.
        """
        if not isinstance(self.identity, str) or not self.identity:
            raise UserError(
                "a judge's model needs an identity, a text that changes when its replies may: by it the "
                f"ledger knows whose scores are whose; got {self.identity!r}"
            )
        if not hasattr(self.lm, "forward"):
            raise UserError(f"a judge's lm must be a dspy.LM, got a {type(self.lm).__name__}")
        own = {"cache": False, "num_retries": 0}
        without = {name: value for name, value in own.items() if hasattr(self.lm, name)}
        object.__setattr__(self, "lm", self.lm.copy(**without))
        check_numbers(threads=self.threads, attempts=self.attempts)
        check_seconds(backoff_s=self.backoff_s)
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise UserError(f"a judge's temperature must be from 0 to 2, got {self.temperature}")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise UserError(f"a judge's retries must be a whole number >= 0, got {self.retries!r}")


def judge_model(given: str | Mapping[str, Any] | JudgeModel) -> JudgeModel:
    """Gives a judge's model from what an experiment file says of it.

    Args:
        given: A name as DSPy takes it ("openai/gpt-4o-mini"), or a table of `connect`'s or, where it has
            an engine, `local`'s settings.

    Raises:
        UserError: a setting is unknown, missing or out of range.
    """
    if isinstance(given, JudgeModel):
        return given
    if not isinstance(given, str | Mapping):
        raise UserError(
            "a judge's model is a name, a table, or in Python JudgeModel(lm=dspy.LM(...), identity=...) or "
            f"of_engine(ENGINE), both of icl_align.scorers.judge_model; got a {type(given).__name__}"
        )
    table = {"name": given} if isinstance(given, str) else dict(given)
    name = table.pop("name", None)
    if not isinstance(name, str) or not name:
        raise UserError(
            'a judge needs a model: model = "openai/NAME", or a table with name = "..."'
        )
    made = call_part(local if "engine" in table else connect, "a judge's model", table, name)
    assert isinstance(made, JudgeModel)
    return made


def connect(  # noqa: PLR0913 (they are the options of an experiment file)
    name: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    identity: str = "",
    temperature: float = 0.0,
    max_tokens: int = 1024,
    timeout_s: float = 120.0,
    seed: int = 0,
    threads: int = 8,
    attempts: int = 3,
    retries: int = 8,
    backoff_s: float = 0.5,
) -> JudgeModel:
    """Names a model that DSPy reaches; nothing is sent yet.

    Args:
        name: Provider and model as DSPy writes them: "openai/gpt-4o-mini", "anthropic/...". For a
            server of one's own (vLLM, SGLang, llama.cpp), "openai/NAME" and `base_url`.
        base_url: Where such a server is, such as http://127.0.0.1:8000/v1.
        api_key_env: Environment variable with the key, where it is not the provider's usual one.
        identity: What else decides the replies: a revision, a dtype. Part of the ledger's key, as the
            URL is not: change it when the model behind a name changes.
        temperature: Of the first attempt.
        max_tokens: Bound on a reply.
        timeout_s: How long one request may take.
        seed: Of all attempts and samples.
        threads: Most requests at once.
        attempts: Most replies to one question.
        retries: How often a failed request is sent again.
        backoff_s: First wait before that.

    Raises:
        UserError: a setting of the wrong kind or outside its range.
    """
    check_numbers(max_tokens=max_tokens)
    check_seconds(timeout_s=timeout_s)
    check_texts(base_url=base_url, api_key_env=api_key_env, identity=identity)
    client: dict[str, Any] = {"timeout": timeout_s}
    if base_url is not None:
        client["api_base"] = base_url
    key = key_from(api_key_env) if api_key_env else ""
    if api_key_env and not key:
        raise UserError(f"the judge's key is to be in {api_key_env}, which is not set")
    if key or base_url is not None:
        client["api_key"] = key or "none"
    return JudgeModel(
        _lm(name, max_tokens, client),
        f"{name}:{identity}:max={max_tokens}",
        temperature=temperature,
        seed=seed,
        threads=threads,
        attempts=attempts,
        retries=retries,
        backoff_s=backoff_s,
    )


def local(
    name: str,
    *,
    engine: str,
    options: Mapping[str, Any] | None = None,
    temperature: float = 0.0,
    max_tokens: int = 512,
    seed: int = 0,
    threads: int = 16,
    attempts: int = 3,
) -> JudgeModel:
    """Makes a judge's model of an engine of ours.

    Args:
        name: A folder, a Hub id, or a server's name for its model.
        engine: "hf", "openai", "vllm", or one of one's own.
        options: The engine's settings.
        temperature: Of the first attempt.
        max_tokens: Bound on a reply.
        seed: Of all attempts and samples.
        threads: Most questions that are put to the engine together.
        attempts: Most replies to one question.

    Raises:
        UserError: as `icl_align.engines.load.load_engine`, or a setting out of range.
    """
    made = load_engine(engine, name, options or {})
    return of_engine(
        made,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        threads=threads,
        attempts=attempts,
    )


def of_engine(
    engine: Engine,
    *,
    temperature: float = 0.0,
    max_tokens: int = 512,
    seed: int = 0,
    threads: int = 16,
    attempts: int = 3,
) -> JudgeModel:
    """Makes a judge's model of an engine.

    A base model is asked in a plain transcript, whatever chat format its tokenizer may know.

    Args:
        engine: Continues texts.
        temperature: Of the first attempt.
        max_tokens: Bound on a reply.
        seed: Of all attempts and samples.
        threads: Most questions that are put to the engine together.
        attempts: Most replies to one question.

    Raises:
        UserError: a setting out of range.
    """
    from icl_align.scorers._lm_engine import TRANSCRIPT, EngineLM

    check_numbers(max_tokens=max_tokens, threads=threads)
    return JudgeModel(
        _lm(f"icl_align/{engine.name}", max_tokens, {"engine": EngineLM(engine, threads)}),
        f"{engine.fingerprint}:{TRANSCRIPT}:max={max_tokens}",
        engine,
        temperature=temperature,
        seed=seed,
        threads=threads,
        attempts=attempts,
        retries=0,
    )


def _lm(name: str, max_tokens: int, client: Mapping[str, Any]) -> dspy.LM:
    """DSPy's LM without its cache (the ledger remembers) and its retries (`ask` waits)."""
    # DSPy would fetch a table of prices at first use; what it ships will do, and nobody else is asked.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    import dspy

    try:
        return dspy.LM(name, max_tokens=max_tokens, cache=False, num_retries=0, **client)
    except ValueError as error:
        raise UserError(f"DSPy cannot use the judge's model {name!r}: {error}") from error
