"""An engine of ours in the place of `dspy.LM(engine=...)`; questions of many threads become one batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icl_align.engines import ContextOverflowError
from icl_align.types import Decoding, Response

if TYPE_CHECKING:
    from icl_align.engines import Engine

TRANSCRIPT = "transcript:1"
"""Version of the text that a request becomes."""
_USUAL_TOKENS = 512
_GATHER_S = 0.02
"""How long the first question waits for others to come along."""
_HEADINGS = {"user": "# Question:", "assistant": "# Reply:"}
STOP = ("\n# Question:", "\n# Instruction:")


@dataclass(slots=True)
class Asked:
    """One question under way."""

    text: str
    stop: tuple[str, ...]
    decoding: Decoding
    done: threading.Event = field(default_factory=threading.Event)
    response: Response | None = None
    error: BaseException | None = None


class EngineLM:
    """Replies to DSPy's requests with an engine: one attempt, no cache, no retries.

    Each thread blocks on its own question. The first of a batch waits a moment for the others, then asks
    the engine for all; the engine's contract is that a reply does not depend on its batch mates.
    """

    def __init__(self, engine: Engine, most: int) -> None:
        """Stores the engine, and how many questions come at once at most."""
        self.engine, self.most = engine, most
        self._gate = threading.Lock()
        self._full = threading.Event()
        self._waiting: list[Asked] = []
        self._running = threading.Lock()

    def complete(self, request: Any) -> Any:
        """Replies to one request, `dspy.lm15.Request` to `dspy.lm15.Response`."""
        from dspy.clients.engines.base import validate_request

        validate_request(request)
        config = request.config
        decoding = Decoding(
            temperature=config.temperature or 0.0,
            top_p=1.0 if config.top_p is None else config.top_p,
            max_tokens=config.max_tokens or _USUAL_TOKENS,
            seed=config.seed or 0,
        )
        asked = Asked(transcript(request), (*STOP, *config.stop), decoding)
        response = self._ask(asked)
        if response.finish == "error":
            from dspy.lm15 import ServerError

            raise ServerError(response.error or "the engine gave no reason")
        return replied(request, response)

    def stream(self, request: Any) -> Iterator[Any]:
        """Gives the whole reply as one stream."""
        from dspy.lm15 import response_to_events

        yield from response_to_events(self.complete(request))

    def close(self) -> None:
        """Gives nothing back; the engine belongs to the caller."""

    def _ask(self, asked: Asked) -> Response:
        with self._gate:
            leads = not self._waiting
            self._waiting.append(asked)
            if len(self._waiting) >= self.most:
                self._full.set()
        if leads:
            self._full.wait(_GATHER_S)
            with self._running:  # others gather while an earlier batch runs
                with self._gate:
                    batch, self._waiting = self._waiting, []
                    self._full.clear()
                self._run(batch)
        asked.done.wait()
        if asked.error is not None:
            raise asked.error
        assert asked.response is not None
        return asked.response

    def _run(self, batch: Sequence[Asked]) -> None:
        groups: dict[tuple[tuple[str, ...], Decoding], list[Asked]] = {}
        for asked in batch:
            groups.setdefault((asked.stop, asked.decoding), []).append(asked)
        for group in groups.values():
            self._generate(group)
        for asked in batch:
            asked.done.set()

    def _generate(self, group: Sequence[Asked]) -> None:
        """Fills in replies, or the error; a question that is too long fails alone."""
        from dspy.lm15 import ContextLengthError

        texts = [asked.text for asked in group]
        try:
            responses = self.engine.generate(texts, stop=group[0].stop, decoding=group[0].decoding)
            for asked, response in zip(group, responses, strict=True):
                asked.response = response
        except ContextOverflowError as error:
            if len(group) == 1:
                group[0].error = ContextLengthError(str(error))
                return
            for asked in group:
                self._generate([asked])
        except BaseException as error:  # noqa: BLE001 (raised again by each thread that waits)
            for asked in group:
                asked.error = error


def replied(request: Any, response: Response) -> Any:
    """Gives a response of ours as DSPy's reply to a request."""
    from dspy.lm15 import Message, TextPart, Usage
    from dspy.lm15 import Response as Reply

    return Reply(
        id=None,
        model=request.model,
        message=Message.assistant([TextPart(response.text)]),
        finish_reason="length" if response.finish == "length" else "stop",
        usage=Usage(
            input_tokens=response.prompt_tokens,
            output_tokens=response.tokens,
            total_tokens=response.prompt_tokens + response.tokens,
        ),
    )


def transcript(request: Any) -> str:
    """Writes a request as the text that a base model continues."""
    system = request.system
    if system is not None and not isinstance(system, str):
        system = "".join(part.text for part in system)
    parts = [f"# Instruction:\n{system.strip()}"] if system else []
    parts += [
        f"{_HEADINGS[message.role]}\n{(message.text or '').strip()}" for message in request.messages
    ]
    return "\n\n".join([*parts, "# Reply:\n"])
