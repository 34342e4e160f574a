"""A Hugging Face folder: a base model's tokenizer with a pack's chat template, and its decoding.

`transformers serve FOLDER` then answers chats with the pack inside: `chat_template.jinja` writes the
prompt, `generation_config.json` decodes and stops, and the tokenizer's `response_template` finds the
answer in the completion. The folder holds the model's configuration and, as asked, its weights.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.export._card import card
from icl_align.export._model_files import (
    TEXTS,
    WEIGHTS,
    Weights,
    files,
    json_object,
    source,
    special_beginning,
    special_tokens,
    text_of,
    tokenizer,
    write_json,
)
from icl_align.export._reply import response_template
from icl_align.export.chat_template import chat_template, messages
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.types import Example

VERSION = 1
REFERENCE = "model_reference.json"
_FLOOR = 1024
"""`transformers serve` lifts a smaller `max_new_tokens` to this, unless a client names one."""


@dataclass(frozen=True, slots=True)
class HFFolder:
    """The export `hf-folder`."""

    name: str = "hf-folder"
    suffix: str = "hf-folder"

    def write(
        self,
        pack: Pack,
        to: Path,
        *,
        model: str | Path | None = None,
        weights: Weights = "reference",
    ) -> list[Path]:
        """Writes the folder, whole or not at all.

        Args:
            pack: The pack.
            to: Where the folder shall be; it must not be there, or be empty.
            model: Another model than the pack's: a folder, a Hub id or "bundled".
            weights: "reference" leaves them where they are and names the place in
                `model_reference.json`; "link" and "copy" put them in, so that the folder is a model.

        Raises:
            UserError: no model, one that cannot be read, a decoding that `transformers` cannot carry,
                or a place that cannot be written.
        """
        named = str(model or pack.model.get("id") or "")
        if not named:
            raise UserError(
                "hf-folder: the pack's model.id is empty; name a model folder or a Hub id"
            )
        _refuse_scope(pack.prompt)
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise UserError(f"{to} is there already and not an empty folder; choose another place")
        origin = source(named, weights)
        scratch: Path | None = None
        try:
            scratch = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
            _fill(scratch, pack, origin, weights, named)
            scratch.chmod(0o755)
            if to.is_dir():
                to.rmdir()
            scratch.rename(to)
        except OSError as error:
            raise UserError(f"cannot write {to}: {error.strerror}; choose another place") from error
        finally:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
        return sorted(to.iterdir())

    def load(self, path: Path) -> Pack:
        """Reads the pack of a folder.

        Raises:
            UserError: it is none, or its chat template is not that of its pack.
        """
        pack = Pack.load(path / "pack.json")
        written = text_of(path / "chat_template.jinja")
        if written != chat_template(pack.prompt, _beginning(path)):
            raise UserError(
                f"{path / 'chat_template.jinja'} is not the template of {path / 'pack.json'}; it was "
                "changed after the export, so export the pack again"
            )
        return pack

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Gives what the folder's tokenizer makes of conversations.

        Without the special token that stands before a text: `Prompt.render` leaves it to the
        tokenizer, too.
        """
        made = tokenizer(path)
        beginning = _beginning(path)
        return [
            made.apply_chat_template(
                messages(example), add_generation_prompt=True, tokenize=False
            ).removeprefix(beginning)
            for example in conversations
        ]


EXPORTER = HFFolder()


def generation_config(prompt: Prompt, tokens: dict[str, Any]) -> dict[str, Any]:
    """Gives a prompt's decoding and stop strings as `transformers` writes them.

    Args:
        prompt: The prompt.
        tokens: The ids of the model's special tokens, `eos_token_id` among them.
    """
    decoding = prompt.decoding
    content: dict[str, Any] = {
        **tokens,
        "do_sample": decoding.temperature > 0,
        "temperature": decoding.temperature,  # vLLM reads no do_sample: 0 is what makes it greedy
        "max_new_tokens": decoding.max_tokens,
        "repetition_penalty": decoding.repetition_penalty,
        "stop_strings": list(prompt.stop),
    }
    if decoding.temperature > 0:
        content |= {"top_p": decoding.top_p, "top_k": 0}
    if decoding.max_tokens < _FLOOR and tokens.get("eos_token_id") is not None:
        # The server's floor would let an answer run on; this makes the token behind the bound the end.
        content["exponential_decay_length_penalty"] = [decoding.max_tokens - 1, 1e6]
    return content


def _refuse_scope(prompt: Prompt) -> None:
    decoding = prompt.decoding
    if decoding.repetition_penalty != 1 and decoding.repetition_scope != "all":
        raise UserError(
            f"hf-folder: decoding.repetition_scope {decoding.repetition_scope!r} cannot be carried: "
            "transformers and vLLM penalise the prompt's tokens, too; use 'all', or a "
            "repetition_penalty of 1"
        )


def _fill(folder: Path, pack: Pack, origin: Path, weights: Weights, named: str) -> None:
    """Writes all files of the folder."""
    for file in files(origin, TEXTS):
        shutil.copyfile(file, folder / file.name)
    for file in files(origin, WEIGHTS) if weights != "reference" else ():
        if weights == "link":
            (folder / file.name).symlink_to(file.resolve())
        else:
            shutil.copyfile(file, folder / file.name)
    made = tokenizer(origin)
    beginning = special_beginning(made, named)
    tokens = special_tokens(origin, made)
    ends = tokens.get("eos_token_id")
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    settings = json_object(folder / "tokenizer_config.json")
    settings.pop("chat_template", None)
    settings["response_template"] = response_template(pack.prompt, made.batch_decode(ids))
    write_json(folder / "tokenizer_config.json", settings)
    template = chat_template(pack.prompt, beginning)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")
    write_json(folder / "generation_config.json", generation_config(pack.prompt, tokens))
    reference = {"version": VERSION, "model": named, "weights": weights, "beginning": beginning}
    if Path(named).is_dir():
        reference["folder"] = os.path.relpath(origin, folder.parent / "folder")
    write_json(folder / REFERENCE, reference)
    pack.save(folder / "pack.json")
    (folder / "README.md").write_text(card(pack, named, weights), encoding="utf-8", newline="\n")


def _beginning(path: Path) -> str:
    return str(json_object(path / REFERENCE).get("beginning", ""))
