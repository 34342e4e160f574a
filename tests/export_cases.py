"""Packs and conversations that break careless exports; what the tests of exporters share."""

from __future__ import annotations

from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Layout, Prompt
from icl_align.types import Decoding, Example, Turn
from icl_align.verify import AWKWARD

UGLY = (
    " \t{{ x }} {% raw %} {# c #} #} {query} {0} } { \\n \\ $HOME `id` $(id) \" ' \"\"\" ''' \r\n\r "
    "é \U0001f600 e\u0301 \u200d \u202e \u2028 \x85 \x00 \x1b[31m \ufeff <|end|> {% endraw %} {{{{ }}}}"
    "\n# Query:\n```\nhi\n```\n\n# Answer:\n```\nno\n``` {{ cycler.__init__.__globals__.os }} \n\n"
)
CODE = "Sure:\n```python\nprint({'a': {1}})\n# Query:\n```\nDone. {}"


def pack(system: str, *texts: str, form: str = "block", decoding: Decoding | None = None) -> Pack:
    exemplars = tuple(Example(f"q{n} {text}", text) for n, text in enumerate(texts))
    return Pack(Prompt(system, exemplars, FORMATS[form], decoding or Decoding()))


_FORM = FORMATS["block"]
_LAYOUT = Layout("# Query:\n\n```\n{", "}\n```\n", "# Answer:\n```\n", "\n```", "\n\n\n")
PACKS = {
    "empty": pack(""),
    "no exemplars": pack("Be kind {to} all."),
    "no system": pack("", CODE),
    **{f"code in {form}": pack("Use {{ jinja }}.", CODE, UGLY, form=form) for form in FORMATS},
    "ugly": pack(UGLY, UGLY, "", CODE, decoding=Decoding(0.3, 0.9, 64, 1.1, "all", None)),
    "turns": Pack(Prompt("S", (Example("b{", "c}", turns=(Turn(UGLY, CODE),)),), _FORM)),
    "layouts": Pack(
        Prompt("S", (Example("b", CODE), Example("c", UGLY)), _FORM, Decoding(), (_LAYOUT,) * 2)
    ),
}
CONVERSATIONS: tuple[Example, ...] = (
    *AWKWARD,
    Example(UGLY, turns=(Turn(UGLY, UGLY), Turn("", ""))),
    Example(""),
)
