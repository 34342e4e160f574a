"""Puts many questions to a judge's model: in parallel, again where a reply cannot be read, never for ever."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from icl_align.errors import UserError
from icl_align.scorers.judge_model import JudgeModel
from icl_align.types import Usage

T = TypeVar("T")
VERSION = "fenced:1"
"""Version of the words around a task."""
_WARM = 0.7
"""Least temperature of a further attempt."""
_LONGEST_WAIT_S = 30.0
_ENOUGH_LOST = 3
"""So many questions lost, each after all its retries, while no request got through: nobody is there."""
_SHOWN = 300
_STOPPED = "no reply: not asked any more"


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What came of one question.

    Attributes:
        reading: What was read from the reply; None where no attempt could be read.
        text: The raw reply to the last attempt.
        problem: Why there is no reading; "" where there is one.
        calls: Requests sent.
        prompt_tokens: Tokens of all requests, where the server says so.
        tokens: Generated tokens of all replies, likewise.
        unfit: Whether the question is too long for the model.
        refused: Whether the server refused this very request, as some do with what they find harmful.
    """

    reading: T | None
    text: str = ""
    problem: str = ""
    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    unfit: bool = False
    refused: bool = False

    @property
    def note(self) -> str:
        """The problem with the start of the raw reply, for a score's note."""
        if not self.problem:
            return ""
        return f"{self.problem}; it said {self.text[:_SHOWN]!r}" if self.text else self.problem


@dataclass(frozen=True, slots=True)
class Output:
    """One key of a reply.

    Attributes:
        desc: What is wanted, in words.
        kind: Its type, for servers that can hold a model to a schema.
    """

    desc: str
    kind: Any = str


@dataclass(frozen=True, slots=True)
class Task:
    """A typed program of one question.

    Attributes:
        instructions: What is to be judged, and how.
        inputs: Descriptions of the input fields by name.
        outputs: The reply's keys by name, in order: reasons before scores.
    """

    instructions: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, Output]

    @property
    def digest(self) -> str:
        """The sha256 (hex, 16 digits) of every word that a model reads besides the judged texts."""
        parts = [self.instructions, *self.inputs, *self.inputs.values()]
        parts += ["->", *self.outputs, *(output.desc for output in self.outputs.values()), VERSION]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def program(self) -> Any:
        """Gives the DSPy program."""
        import dspy

        fields: dict[str, Any] = {
            name: (str, dspy.InputField(desc=desc)) for name, desc in self.inputs.items()
        }
        fields |= {
            name: (output.kind, dspy.OutputField(desc=output.desc))
            for name, output in self.outputs.items()
        }
        return dspy.Predict(dspy.Signature(fields, self.instructions))


def ask(
    model: JudgeModel,
    task: Task,
    questions: Sequence[Mapping[str, str]],
    read: Callable[[str], T],
    *,
    sample: int = 0,
) -> list[Reply[T]]:
    """Asks each question until its reply can be read, at most `model.attempts` times.

    Args:
        model: Who is asked.
        task: What.
        questions: Texts of the input fields.
        read: Reads a raw reply; ValueError, with the reason, for one that it cannot read.
        sample: Another number gives other random streams.

    Returns:
        One reply per question, in order.

    Raises:
        UserError: the key, the model or its settings are wrong, or not a single request got through.
    """
    if not questions:
        return []
    program, line = task.program(), _Line()
    work = partial(_ask_one, model, program, read, sample, line)
    pool = ThreadPoolExecutor(min(model.threads, len(questions)))
    try:
        replies = list(pool.map(work, questions))
    finally:  # interrupted or not: nobody waits for a retry any more
        line.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    if line.error is not None:
        raise line.error
    if any(reply.calls or reply.unfit for reply in replies):
        return replies
    if all(reply.refused for reply in replies) and _replies(model, task, program):
        return replies
    lost = next(reply for reply in replies if reply.problem != _STOPPED)
    raise UserError(f"the judge {model.lm.model!r} cannot be reached: {lost.problem}")


@dataclass(slots=True)
class _Line:
    """What the questions of one call share.

    Attributes:
        stop: Set where no further request makes sense.
        error: Why no question can get a reply.
        heard: Whether any did.
        lost: Questions that got none after all retries.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    error: UserError | None = None
    heard: bool = False
    lost: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lose(self) -> None:
        """Counts a lost question; gives up where the server seems to be dead."""
        with self._lock:
            self.lost += 1
        if self.lost >= _ENOUGH_LOST and not self.heard:
            self.stop.set()

    def sleep(self, seconds: float) -> None:
        """Waits before a request is sent again.

        Raises:
            _LostError: there is no sense in it any more.
        """
        if self.stop.wait(seconds):
            raise _LostError(_STOPPED)


def _replies(model: JudgeModel, task: Task, program: Any) -> bool:
    """Whether the model replies to a harmless question, as it refuses all others."""
    greeting = dict.fromkeys(task.inputs, "Good morning.")
    return bool(_ask_one(model, program, str, 0, _Line(), greeting).calls)


def _ask_one(
    model: JudgeModel,
    program: Any,
    read: Callable[[str], T],
    sample: int,
    line: _Line,
    question: Mapping[str, str],
) -> Reply[T]:
    text, problem = "", ""
    calls = prompt_tokens = tokens = 0
    for attempt in range(model.attempts):
        config: dict[str, Any] = {"temperature": model.temperature}
        config["seed"] = _seed(model.seed, sample, attempt)
        if attempt:
            config["temperature"] = max(_WARM, model.temperature)
        start = time.perf_counter()
        try:
            line.sleep(0)
            text, used = _request(model, program, question, config, line.sleep)
        except _LostError as error:
            if not error.unfit and not error.refused:
                line.lose()
            spent = (calls, prompt_tokens, tokens, error.unfit, error.refused)
            return Reply(None, text, str(error), *spent)
        except UserError as error:
            line.error = error
            line.stop.set()
            return Reply(None, text, str(error))
        line.heard = True
        model.meter.add(
            Usage(1, 0, used[0], generated_tokens=used[1], seconds=time.perf_counter() - start)
        )
        calls += 1
        prompt_tokens += used[0]
        tokens += used[1]
        try:
            return Reply(read(text), text, "", calls, prompt_tokens, tokens)
        except ValueError as error:
            problem = str(error) or "the reply cannot be read"
    return Reply(None, text, f"{problem} ({calls} attempts)", calls, prompt_tokens, tokens)


class _LostError(Exception):
    """A request got no reply, and sending it again would not help."""

    def __init__(self, reason: str, *, unfit: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.unfit, self.refused = unfit, refused


def _request(
    model: JudgeModel,
    program: Any,
    question: Mapping[str, str],
    config: Mapping[str, Any],
    sleep: Callable[[float], None],
) -> tuple[str, tuple[int, int]]:
    """Gives the raw reply and (prompt tokens, generated tokens).

    Raises:
        _LostError: this question got no reply.
        UserError: no question can get one.
    """
    import dspy
    from dspy.utils import exceptions as wrong
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    from icl_align.scorers._adapter import FencedAdapter

    fatal = (
        wrong.LMAuthError,
        wrong.LMBillingError,
        wrong.LMConfigurationError,
        wrong.LMUnsupportedModelError,
        wrong.LMUnsupportedFeatureError,
    )
    given_up = (*fatal, wrong.LMInvalidRequestError)
    again = Retrying(
        retry=retry_if_exception(
            lambda e: isinstance(e, wrong.LMError) and not isinstance(e, given_up)
        ),
        wait=partial(_wait, model),
        stop=stop_after_attempt(model.retries + 1),
        sleep=sleep,
        reraise=True,
    )
    try:
        with dspy.context(
            lm=model.lm, adapter=FencedAdapter(), disable_history=True, track_usage=True
        ):
            made = again(program, **question, config=dict(config))
    except wrong.AdapterParseError as error:
        return error.lm_response or "", (0, 0)
    except fatal as error:
        raise UserError(f"the judge {model.lm.model!r} cannot be asked: {_line(error)}") from error
    except wrong.LMError as error:
        unfit = isinstance(error, wrong.ContextWindowExceededError)
        refused = isinstance(error, wrong.LMInvalidRequestError)
        raise _LostError(f"no reply: {_line(error)}", unfit=unfit, refused=refused) from error
    used = (made.get_lm_usage() or {}).values()
    return str(next(iter(made.values()))), (
        sum(int(one.get("prompt_tokens") or 0) for one in used),
        sum(int(one.get("completion_tokens") or 0) for one in used),
    )


def _wait(model: JudgeModel, state: Any) -> float:
    """Seconds before a request is sent again: what the server asked for, or twice as long each time."""
    error = state.outcome.exception()
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, int | float) and 0 <= asked <= _LONGEST_WAIT_S:
        return float(asked)
    return float(min(_LONGEST_WAIT_S, model.backoff_s * 2 ** (state.attempt_number - 1)))


def _seed(seed: int, sample: int, attempt: int) -> int:
    """Gives the seed of an attempt: the judge's own for the first one."""
    if not sample and not attempt:
        return seed
    text = f"{seed}:{sample}:{attempt}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4]) >> 1


def _line(error: Exception) -> str:
    """What went wrong, without the advice for programmers that DSPy adds."""
    return " ".join(str(error).split()).partition(" To fix: ")[0][:_SHOWN]
