"""Export `openai`: a request for `/v1/completions`, in parts, and messages for `/v1/chat/completions`.

A base model is asked through the completions endpoint: the prompt is the parts joined around the
query, which `README` in the file says in words. The messages are for chat models, or for a server
whose template writes turns as the pack's format does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.export import needed
from icl_align.export.files import Parts, as_json, parts, read_json, write_files
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.types import Example

VERSION = 1
_README = (
    "completion: POST request + {prompt} to /v1/completions, where prompt is head, then for each "
    "earlier turn ask + query + reply + answer + close, then ask + query + reply. chat: POST request "
    "+ {messages} to /v1/chat/completions, with the query appended as a user message."
)


@dataclass(frozen=True, slots=True)
class OpenAIExporter:
    """Requests for OpenAI-compatible servers, stop strings and decoding included."""

    name: str = "openai"
    suffix: str = "messages.json"
    by: str = "the openai client, the request it sends"

    def write(self, pack: Pack, to: Path) -> list[Path]:
        """Writes both requests and the pack.

        Raises:
            UserError: it cannot be written.
        """
        return write_files({to: as_json(_content(pack))})

    def load(self, path: Path) -> Pack:
        """Reads the pack back.

        Raises:
            UserError: it is no such file, or the requests are not the pack's.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("icl_align_export") != VERSION:
            raise UserError(f"{path}: this is no openai export of version {VERSION}")
        pack = Pack.from_json(content.get("pack"), where=str(path))
        if content != _content(pack):
            raise UserError(f"{path}: the requests are not the pack's; export it anew")
        return pack

    def render(self, path: Path, conversations: Sequence[Example]) -> list[str]:
        """Sends the completion requests by the openai client, to a transport that keeps them.

        Raises:
            NotInstalledError: the package openai is not there.
        """
        content = read_json(path)["completion"]
        around = Parts(**content["prompt"])
        sent: list[str] = []
        client = _client(sent)
        for item in conversations:
            turns = [(turn.query, turn.answer) for turn in item.turns]
            text = around.wrap(item.query, turns)
            client.completions.create(prompt=text, **content["request"])
        return sent


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as chat messages, without the query."""
    found = [{"role": "system", "content": prompt.system}] if prompt.system else []
    for exemplar in prompt.exemplars:
        pairs = [(turn.query, turn.answer) for turn in exemplar.turns]
        for query, answer in (*pairs, (exemplar.query, exemplar.answer or "")):
            found.append({"role": "user", "content": query})
            found.append({"role": "assistant", "content": answer})
    return found


def request(pack: Pack) -> dict[str, Any]:
    """The fields of a request besides its text."""
    decoding = pack.prompt.decoding
    found: dict[str, Any] = {
        "model": str(pack.model.get("id") or "MODEL"),
        "max_tokens": decoding.max_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "stop": list(pack.prompt.stop),
    }
    if decoding.seed is not None:
        found["seed"] = decoding.seed
    if decoding.repetition_penalty != 1:
        found["extra_body"] = {"repetition_penalty": decoding.repetition_penalty}
    return found


def _content(pack: Pack) -> dict[str, Any]:
    return {
        "icl_align_export": VERSION,
        "readme": _README,
        "completion": {"request": request(pack), "prompt": asdict(parts(pack.prompt))},
        "chat": {"request": request(pack), "messages": messages(pack.prompt)},
        "pack": pack.to_json(),
    }


def _client(sent: list[str]) -> Any:
    """An openai client whose requests go nowhere but into a list."""
    import json

    openai = needed("openai", "exports")
    import httpx

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["prompt"])
        body = {"id": "0", "object": "text_completion", "created": 0, "model": "", "choices": []}
        return httpx.Response(200, json=body)

    return openai.OpenAI(
        api_key="none",
        base_url="http://127.0.0.1:9/v1",
        http_client=httpx.Client(transport=httpx.MockTransport(keep)),
    )


EXPORTER = OpenAIExporter()
