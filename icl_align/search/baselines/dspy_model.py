"""The model that stands between DSPy and an evaluator of ours; DSPy sees names instead of texts.

An instruction is "<system 3>", a demo's question "<exemplar 7>", an input "<example 12>". The model reads
the names from a request, measures that prompt on that example, and replies with the score, which the
metric reads. Written against DSPy 3.4.1, whose chat format it takes apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from icl_align.evaluate import Evaluator
from icl_align.search.choices import Choice, Choices
from icl_align.space import Space
from icl_align.types import Example

_NAME = re.compile(r"<(system|exemplar|example) (\d+)>")
_OUTPUT = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)
_SCORE = re.compile(r"score=(\S+)")


class Model:
    """Answers DSPy's requests: an engine in the sense of `dspy.LM(engine=...)`.

    Attributes:
        failure: The first error of the evaluator. DSPy makes 0 of errors and goes on; so nothing is
            measured any more after one, and it is raised at the end.
    """

    def __init__(self, space: Space, examples: Sequence[Example], evaluator: Evaluator) -> None:
        self.space, self.examples, self.evaluator = replace(space, k_min=0), examples, evaluator
        self.choices = Choices(self.space)
        self.failure: BaseException | None = None
        self._known: dict[tuple[Choice, int], float] = {}
        self._proposed = 0

    @property
    def used(self) -> int:
        """How many (prompt, example) pairs were measured."""
        return len(self._known)

    def begin(self) -> None:
        """Begins with the first system text again, for a run that repeats the last one."""
        self._proposed = 0

    def complete(self, request: Any) -> Any:
        """Replies to one request, `dspy.lm15.Request` to `dspy.lm15.Response`."""
        from dspy.lm15 import Message, Response, TextPart, Usage

        fields = self.reply(_text(request.system), [message.text for message in request.messages])
        parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart("\n\n".join([*parts, "[[ ## completed ## ]]"]))]),
            finish_reason="stop",
            usage=Usage(input_tokens=0, output_tokens=0, total_tokens=0),
        )

    def close(self) -> None:
        """Gives nothing back; the evaluator belongs to the caller."""

    def reply(self, system: str, messages: Sequence[str]) -> dict[str, str]:
        """Gives the output fields that DSPy asked for."""
        described = system.partition("Your output fields are:")[2]
        outputs = _OUTPUT.findall(described.partition("All interactions")[0])
        if outputs != ["response"]:
            return {name: self._propose(name) for name in outputs}
        shown = [_NAME.findall(message) for message in messages]
        kind, number = shown[-1][0]
        if kind == "exemplar":
            return {"response": "score=1"}
        demos = [int(number) for names in shown[:-1] for kind, number in names[:1]]
        place = int(_NAME.findall(system)[-1][1])
        return {"response": f"score={self._measure(Choice(tuple(demos), place), int(number))}"}

    def _propose(self, field: str) -> str:
        """Gives the next system text's name to what asks for an instruction.

        DSPy puts the student's own instruction, which is the first text, in place of the first one.
        """
        if "instruction" not in field:
            return "A task."
        self._proposed += 1
        return name("system", (self._proposed - 1) % len(self.space.systems))

    def _measure(self, choice: Choice, example: int) -> float:
        """Measures a prompt on an example, once; a missing verdict is 0, as DSPy makes it."""
        if self.failure is not None:
            raise RuntimeError("the search has failed") from self.failure
        if (choice, example) not in self._known:
            prompt = self.space.build(self.choices.write(choice))
            try:
                (score,) = self.evaluator(prompt, [self.examples[example]])
            except BaseException as error:
                self.failure = error
                raise
            self._known[choice, example] = 0.0 if score.value is None else score.value
        return self._known[choice, example]


def metric(example: Any, prediction: Any, trace: Any = None) -> float:
    """Reads the score that the model put into its reply."""
    del example, trace
    found = _SCORE.search(prediction.response)
    if found is None:
        raise ValueError(f"expected a score in {prediction.response!r}")
    return float(found[1])


def choice_of(program: Any) -> Choice:
    """Reads a program of DSPy's as a choice."""
    (predictor,) = program.predictors()
    (system,) = _NAME.findall(predictor.signature.instructions)
    demos = [_NAME.findall(demo["question"])[0] for demo in predictor.demos]
    return Choice(tuple(int(number) for _, number in demos), int(system[1]))


def name(kind: str, number: int) -> str:
    """Gives what DSPy sees of a system text, an exemplar or an example."""
    return f"<{kind} {number}>"


def _text(parts: Any) -> str:
    """Gives the text of a request's system part, which may be none, a string, or parts."""
    if parts is None or isinstance(parts, str):
        return parts or ""
    return "".join(part.text for part in parts)
