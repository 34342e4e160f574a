r"""A Jinja chat template that writes a conversation as `Prompt.render` does.

With it `apply_chat_template(messages, add_generation_prompt=True)` gives the bytes of the pack's
prompt, so that a server of chats continues them with a base model. All texts of the pack stand in
it as string constants without a brace (`{` is written `\x7b`), so nothing in them is Jinja.

A system message of the client, if it has one, is the first message and takes the place of the
pack's system text; an empty one leaves it out. Then user and assistant speak in turn. Anything else
raises an exception that says so, and so does a content that is no text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.pack import Pack, write_whole
from icl_align.prompt import Prompt
from icl_align.types import Example

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
_UNSAFE = re.compile(r'[\\"{}\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]')
"""What a reader of the file, or a simple Jinja reader, could take for something else."""
_BYTE = 0xFF
_TEMPLATE = """\
{{#- Written by icl_align: the prompt {digest} as a chat template. -#}}
{{%- set system = {system} -%}}
{{%- set turns = messages -%}}
{{%- if messages and messages[0]["role"] in ["system", "developer"] -%}}
  {{%- if messages[0]["content"] is not string -%}}
    {{{{- raise_exception("the content of a message must be a text") -}}}}
  {{%- endif -%}}
  {{%- set system = messages[0]["content"] -%}}
  {{%- set turns = messages[1:] -%}}
{{%- endif -%}}
{{{{- {beginning} -}}}}
{{%- if system -%}}
  {{{{- {system_open} + system + {system_close} -}}}}
{{%- endif -%}}
{{{{- {exemplars} -}}}}
{{%- for message in turns -%}}
  {{%- if message["role"] != ("user" if loop.index0 % 2 == 0 else "assistant") -%}}
    {{{{- raise_exception("after at most one system message, user and assistant must speak in turn") -}}}}
  {{%- endif -%}}
  {{%- if message["content"] is not string -%}}
    {{{{- raise_exception("the content of a message must be a text") -}}}}
  {{%- endif -%}}
  {{%- if message["role"] == "user" -%}}
    {{{{- ("" if loop.first else {gap}) + {query_open} + message["content"] + {query_close} -}}}}
  {{%- else -%}}
    {{{{- {answer_open} + message["content"] + {answer_close} -}}}}
  {{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
  {{%- if not turns or turns[-1]["role"] != "user" -%}}
    {{{{- raise_exception("the last message must be the user's") -}}}}
  {{%- endif -%}}
  {{{{- {answer_open} -}}}}
{{%- endif -%}}
"""


def chat_template(prompt: Prompt, beginning: str = "") -> str:
    """Gives a prompt as a Jinja chat template.

    Args:
        prompt: The prompt.
        beginning: What stands before everything. Servers tokenise a rendered chat without adding
            special tokens, so where a tokenizer would put one before a text its own text belongs
            here; `hf-folder` does that.
    """
    form = prompt.format
    alone = replace(prompt, system="").render("").removesuffix(form.open_turn(""))
    texts = {
        "system": prompt.system,
        "beginning": beginning,
        "exemplars": alone,
        "system_open": form.system_open,
        "system_close": form.system_close,
        "query_open": form.query_open,
        "query_close": form.query_close,
        "answer_open": form.answer_open,
        "answer_close": form.answer_close,
        "gap": form.gap,
    }
    constants = {name: _constant(text) for name, text in texts.items()}
    return _TEMPLATE.format(digest=prompt.digest[:12], **constants)


def messages(example: Example) -> list[dict[str, str]]:
    """Gives a conversation as chat messages, the query last."""
    found = []
    for turn in example.turns:
        found.append({"role": "user", "content": turn.query})
        found.append({"role": "assistant", "content": turn.answer})
    return [*found, {"role": "user", "content": example.query}]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The export `chat-template`: the template alone, for a server that is told of it.

    It begins with no special token, since it knows no tokenizer; `hf-folder` knows one.
    """

    name: str = "chat-template"
    suffix: str = "chat_template.jinja"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes the template.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            write_whole(to, chat_template(pack.prompt).encode("utf-8"))
        except OSError as error:
            raise UserError(f"cannot write {to}: {error.strerror}; choose another place") from error
        return [to]

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Gives what `transformers` makes of conversations with the template."""
        from transformers.utils.chat_template_utils import render_jinja_template

        found: Any = render_jinja_template(
            conversations=[messages(example) for example in conversations],
            chat_template=path.read_text(encoding="utf-8"),
            add_generation_prompt=True,
        )
        return list(found[0])


EXPORTER = ChatTemplate()


def _constant(text: str) -> str:
    """A text as a string constant of Jinja, which reads escapes as Python does."""
    return '"' + _UNSAFE.sub(_escape, text) + '"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code <= _BYTE else f"\\u{code:04x}")
