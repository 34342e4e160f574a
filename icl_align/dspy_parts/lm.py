"""Language models for DSPy that go on with a text as it is: an engine of ours, or a recorder.

DSPy's own text mode adds "BEGIN RESPONSE:" to every text; `dspy.LM(engine=...)` adds nothing. Written
against DSPy 3.4.1.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from icl_align.scorers._lm_engine import Asked, EngineLM, replied
from icl_align.types import Decoding, Response, Usage

if TYPE_CHECKING:
    import dspy

    from icl_align.engines import Engine


class Recorder:
    """Keeps the texts it is sent, and completes each with nothing.

    Attributes:
        texts: What came, in order.
        repetition_penalty: What it is said to hold.
    """

    def __init__(self, repetition_penalty: float = 1.0) -> None:
        self.texts: list[str] = []
        self.repetition_penalty = repetition_penalty

    def complete(self, request: Any) -> Any:
        """Replies to one request, `dspy.lm15.Request` to `dspy.lm15.Response`."""
        self.texts.append(sent(request))
        return replied(request, Response("", 0, "stop"))

    def close(self) -> None:
        """Gives nothing back."""


class CompletionLM(EngineLM):
    """Replies to DSPy's requests with an engine; questions of many threads become one batch.

    Attributes:
        decoding: What is asked of the engine where a request does not say.
        usage: What the engine has computed so far.
        failure: The first failed generation or error. DSPy makes a score of 0 of errors, so whoever
            optimises must look here.
    """

    def __init__(self, engine: Engine, decoding: Decoding, most: int) -> None:
        """Stores the engine, the usual decoding, and how many questions come at once at most."""
        super().__init__(engine, most)
        self.decoding, self.usage = decoding, Usage()
        self.failure: BaseException | None = None
        self._meter = threading.Lock()

    @property
    def repetition_penalty(self) -> float:
        """The penalty in force; DSPy's requests cannot name one."""
        return self.decoding.repetition_penalty

    def complete(self, request: Any) -> Any:
        """Replies to one request, `dspy.lm15.Request` to `dspy.lm15.Response`.

        Raises:
            ServerError: of `dspy.lm15`: the engine failed, now or before.
        """
        from dspy.lm15 import ContextLengthError, ServerError

        if self.failure is not None:
            raise ServerError(f"an earlier generation failed: {self.failure}")
        asked = Asked(sent(request), tuple(request.config.stop), self._decoding(request.config))
        try:
            response = self._ask(asked)
        except ContextLengthError:
            raise
        except BaseException as error:
            self.failure = self.failure or error
            raise
        with self._meter:
            self.usage += Usage.of([response], 0.0)
        if response.finish == "error":
            told = response.error or "the engine gave no reason"
            self.failure = self.failure or RuntimeError(told)
            raise ServerError(told)
        return replied(request, response)

    def _decoding(self, config: Any) -> Decoding:
        usual = self.decoding
        return Decoding(
            temperature=usual.temperature if config.temperature is None else config.temperature,
            top_p=usual.top_p if config.top_p is None else config.top_p,
            max_tokens=config.max_tokens or usual.max_tokens,
            repetition_penalty=usual.repetition_penalty,
            repetition_scope=usual.repetition_scope,
            seed=usual.seed if config.seed is None else config.seed,
        )


def base_lm(engine: Engine, decoding: Decoding | None = None, *, threads: int = 16) -> dspy.LM:
    """Gives an engine of ours as a language model of DSPy's, for use with `UrialAdapter`.

    Args:
        engine: Continues texts: "hf", "vllm", "openai" (a server's /v1/completions), or one's own.
        decoding: What is asked where a predictor or an adapter does not say.
        threads: Most questions that are put to the engine together.
    """
    import dspy

    made = CompletionLM(engine, decoding or Decoding(), threads)
    return dspy.LM(f"icl_align/{engine.name}", engine=made, cache=False, num_retries=0)


def sent(request: Any) -> str:
    """Gives the text of a request that holds one message.

    Raises:
        ValueError: it holds more: another adapter than `UrialAdapter` made it.
    """
    if request.system or len(request.messages) != 1 or request.messages[0].text is None:
        raise ValueError(
            "a base model goes on with one text, and this is a chat; use "
            "dspy.context(adapter=UrialAdapter(...))"
        )
    return str(request.messages[0].text)
