"""The adapter: a signature, its demos and the inputs as one text, and the completion read back.

Written against DSPy 3.4.1.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dspy
from dspy.adapters.utils import apply_output_field_defaults
from dspy.utils.exceptions import AdapterParseError

from icl_align.dspy_parts import fields
from icl_align.errors import UserError
from icl_align.prompt import FORMATS, Format, Layout, Prompt
from icl_align.types import Decoding, Example

if TYPE_CHECKING:
    from icl_align.types import Turn

_LOG = logging.getLogger(__name__)


class UrialAdapter(dspy.Adapter):  # type: ignore[misc]
    """Writes a signature, its demos and the inputs as one text, and reads the completion.

    One input and one output stand as they are, and the system text is the instructions alone. Where
    there are more, each stands under a label, the fields are described behind the instructions, and the
    text ends with the first output's label. Demos that lack a field come first, as DSPy has it.

    Attributes:
        form: The format.
        layouts: White space around each demo, while there are as many demos (`Prompt.layouts`).
        decoding: What is asked of the language model where the predictor does not say; None leaves it
            to the language model. DSPy has no name for a repetition penalty: the engine must hold it.
        system: The system text, where DSPy would tidy it: it strips and dedents instructions.
    """

    def __init__(
        self,
        format: str | Format = "block",  # noqa: A002 (DSPy users write UrialAdapter(format="block"))
        *,
        layouts: Sequence[Layout] = (),
        decoding: Decoding | None = None,
        system: str | None = None,
    ) -> None:
        """Stores the settings.

        Args:
            format: A built-in format's name, or a format.
            layouts: See the class.
            decoding: See the class.
            system: See the class.

        Raises:
            UserError: no such format.
        """
        super().__init__()
        if isinstance(format, str) and format not in FORMATS:
            raise UserError(f"there is no format {format!r}; known are {', '.join(FORMATS)}")
        self.form = FORMATS[format] if isinstance(format, str) else format
        self.layouts, self.decoding, self.system = tuple(layouts), decoding, system
        self._warned = False

    @staticmethod
    def of(prompt: Prompt) -> UrialAdapter:
        """Gives the adapter under which a prompt's program sends the prompt's bytes."""
        return UrialAdapter(
            prompt.format, layouts=prompt.layouts, decoding=prompt.decoding, system=prompt.system
        )

    def prompt(self, signature: Any, demos: Sequence[Mapping[str, Any]] = ()) -> Prompt:
        """Gives instructions and demos as a prompt; demos without any input or output are left out.

        Raises:
            UserError: a value that is no text.
        """
        inputs, outputs = fields.inputs_of(signature), signature.output_fields
        if not inputs or not outputs:
            raise UserError("a signature needs an input and an output besides its history")
        system = signature.instructions
        if self.system is not None and inspect.cleandoc(self.system) == system:
            system = self.system
        if len(inputs) > 1 or len(outputs) > 1:
            told = fields.description(signature)
            system = f"{system}\n\n{told}" if system else told
        usable = [
            demo for demo in demos if fields.present(inputs, demo) and fields.present(outputs, demo)
        ]
        usable.sort(key=lambda demo: all(demo.get(k) is not None for k in (*inputs, *outputs)))
        exemplars = tuple(
            Example(
                fields.write(inputs, demo),
                fields.write(outputs, demo),
                turns=_turns(signature, demo),
            )
            for demo in usable
        )
        layouts = self.layouts if len(self.layouts) == len(exemplars) else ()
        return Prompt(system, exemplars, self.form, self.decoding or Decoding(), layouts)

    def text(
        self, signature: Any, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> str:
        """Gives the text that is sent.

        Raises:
            UserError: a value that is no text, a missing input, or a message without its fields.
        """
        query = fields.write(fields.inputs_of(signature), inputs)
        text = self.prompt(signature, demos).render(Example(query, turns=_turns(signature, inputs)))
        outputs = signature.output_fields
        if len(outputs) == 1:
            return text
        return f"{text}{fields.labels_of(outputs)[next(iter(outputs))]}\n"

    def format(
        self, signature: Any, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Gives the text as the one message that DSPy sends."""
        return [{"role": "user", "content": self.text(signature, demos, inputs)}]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Reads the output fields from a completion.

        Raises:
            AdapterParseError: a field is missing, or is not of its type.
        """
        outputs = signature.output_fields
        try:
            found = fields.read(outputs, self._format_only.parse(completion))
        except ValueError as error:
            raise AdapterParseError("UrialAdapter", signature, completion, str(error)) from error
        found = dict(apply_output_field_defaults(signature, found))
        if missing := [name for name in outputs if name not in found]:
            told = f"the completion lacks {', '.join(missing)}"
            raise AdapterParseError("UrialAdapter", signature, completion, told, found)
        return found

    def __call__(
        self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: Any, inputs: Any
    ) -> list[dict[str, Any]]:
        """Sends the text, with the stop strings that end an answer, and reads the completions."""
        settings = self._settings(lm, lm_kwargs, len(demos))
        found: list[dict[str, Any]] = super().__call__(lm, settings, signature, demos, inputs)
        return found

    async def acall(
        self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: Any, inputs: Any
    ) -> list[dict[str, Any]]:
        """Does the same without blocking."""
        settings = self._settings(lm, lm_kwargs, len(demos))
        found: list[dict[str, Any]] = await super().acall(lm, settings, signature, demos, inputs)
        return found

    @property
    def _format_only(self) -> Prompt:
        return Prompt("", (), self.form)

    def _settings(self, lm: Any, given: Mapping[str, Any], demos: int) -> dict[str, Any]:
        """Adds stop strings and decoding to what a predictor asks for.

        Raises:
            UserError: the language model would add words of its own.
        """
        if lm.model_type == "text" and isinstance(lm.engine, str):
            raise UserError(
                'DSPy\'s model_type="text" adds "BEGIN RESPONSE:" to every text, so a base model would '
                "not get this prompt; give dspy.LM an engine (icl_align.dspy_parts.lm.base_lm makes one)"
            )
        gaps = self.layouts if len(self.layouts) == demos else ()
        blank = Example("", "")
        stop = Prompt("", (blank,) * len(gaps), self.form, layouts=gaps).stop
        more = given.get("stop", lm.kwargs.get("stop")) or ()
        more = (more,) if isinstance(more, str) else more
        wanted = _asked(self.decoding) if self.decoding else {}
        self._check_penalty(lm)
        return {**wanted, **given, "stop": list(dict.fromkeys((*stop, *more)))}

    def _check_penalty(self, lm: Any) -> None:
        penalty = self.decoding.repetition_penalty if self.decoding else 1.0
        held = getattr(lm.engine, "repetition_penalty", None)
        if penalty not in (1.0, held) and not self._warned:
            self._warned = True
            _LOG.warning(
                "DSPy cannot ask for the repetition penalty %s; set it in the engine", penalty
            )

    def _call_postprocess(
        self, processed: Any, original: Any, outputs: Sequence[Any], lm: Any, lm_kwargs: Any
    ) -> Any:
        """Lets an empty completion be an empty answer, which DSPy takes for a failure."""
        texts = ["\n" if output in ("", None) else output for output in outputs]
        return super()._call_postprocess(processed, original, texts, lm, lm_kwargs)


def _asked(decoding: Decoding) -> dict[str, Any]:
    """Gives a decoding in the names of DSPy's requests."""
    wanted: dict[str, Any] = {
        "temperature": decoding.temperature,
        "max_tokens": decoding.max_tokens,
    }
    if decoding.top_p < 1:
        wanted["top_p"] = decoding.top_p
    if decoding.seed is not None:
        wanted["seed"] = decoding.seed
    return wanted


def _turns(signature: Any, values: Mapping[str, Any]) -> tuple[Turn, ...]:
    name = fields.history_of(signature)
    found: tuple[Turn, ...] = fields.turns(signature, values.get(name)) if name else ()
    return found
