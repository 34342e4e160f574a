"""A stand-in for the module `vllm`: its recorded names and nothing else, over a real small model.

It takes the arguments that vLLM's source takes and refuses all others, batches and finishes requests
in steps as vLLM does, and decodes text with the same incremental decoder. It says nothing about speed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from os.path import commonprefix
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer

RECORD = Path(__file__).with_name("vllm_api.json")
API: dict[str, Any] = json.loads(RECORD.read_text("utf-8")) if RECORD.is_file() else {}
_BLOCK = 16

_CALLS = {
    "LLM.__init__": "entrypoints/llm.py",
    "LLM.enqueue": "entrypoints/llm.py",
    "LLM.generate": "entrypoints/llm.py",
    "LLMEngine.has_unfinished_requests": "v1/engine/llm_engine.py",
    "LLMEngine.step": "v1/engine/llm_engine.py",
    "LLMEngine.abort_request": "v1/engine/llm_engine.py",
    "RequestOutput.__init__": "outputs.py",
}
_FIELDS = {
    "EngineArgs": "engine/arg_utils.py",
    "ModelConfig": "config/model.py",
    "SamplingParams": "sampling_params.py",
    "TokensPrompt": "inputs/llm.py",
    "CompletionOutput": "outputs.py",
    "Logprob": "logprobs.py",
}


def record(source: Path) -> dict[str, Any]:
    """Reads names of parameters and fields from vLLM's source, the folder `vllm` of its wheel."""

    def nodes(file: str, name: str) -> list[ast.stmt]:
        tree = ast.parse((source / file).read_text("utf-8"))
        return next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)

    found: dict[str, Any] = {}
    for path, file in _CALLS.items():
        owner, name = path.split(".")
        (call,) = (
            n for n in nodes(file, owner) if isinstance(n, ast.FunctionDef) and n.name == name
        )
        parameters = [*call.args.args[1:], *call.args.kwonlyargs]
        found[path] = [parameter.arg for parameter in parameters]
    for owner, file in _FIELDS.items():
        fields = [n.target for n in nodes(file, owner) if isinstance(n, ast.AnnAssign)]
        found[owner] = [field.id for field in fields if isinstance(field, ast.Name)]
    tree = ast.parse((source / "v1/engine/__init__.py").read_text("utf-8"))
    found["finish reasons"] = next(
        list(ast.literal_eval(n.value))
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "FINISH_REASON_STRINGS"
    )
    return found


def _known(call: str, given: Sequence[str], *more: str) -> None:
    for name in given:
        names = {known for key in (call, *more) for known in API[key]}
        if name not in names:
            raise TypeError(f"vLLM {API['version']}: {call} takes no argument {name!r}")


class SamplingParams(SimpleNamespace):
    """Stores its fields and refuses what vLLM's `_verify_args` does, as far as it matters here."""

    def __init__(self, **given: Any) -> None:
        _known("SamplingParams", list(given))
        usual = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 16, "repetition_penalty": 1.0}
        rest = dict.fromkeys(("seed", "stop", "stop_token_ids", "prompt_logprobs"))
        super().__init__(**usual | rest | {"detokenize": True} | given)
        if not 0 <= self.temperature <= 2 or (self.seed or 0) >= 2**63:
            raise ValueError("out of range")
        if self.include_stop_str_in_output or (self.stop and not self.detokenize):
            raise ValueError("not as asked for here")

    include_stop_str_in_output = False


def TokensPrompt(**given: Any) -> dict[str, Any]:  # noqa: N802 (its name there)
    """A typed dictionary."""
    _known("TokensPrompt", list(given))
    return given


class LLM:
    """Runs a small model in float32, one token of every request per step."""

    started: list[dict[str, Any]]

    def __init__(self, model: str, **given: Any) -> None:
        _known("LLM.__init__", list(given), "EngineArgs")
        self.started.append(given)
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        own = self.model.config.max_position_embeddings
        self.model_config = SimpleNamespace(max_model_len=given.get("max_model_len") or own)
        if self.model_config.max_model_len > own:
            raise ValueError(f"max_model_len is greater than the derived {own}")
        self.llm_engine = LLMEngine(self)
        self.requests = 0

    def enqueue(self, prompts: Any, sampling_params: Any = None, **given: Any) -> list[str]:
        _known("LLM.enqueue", list(given))
        names = []
        for prompt, settings in zip(prompts, sampling_params, strict=True):
            request = Request(self, str(self.requests), prompt["prompt_token_ids"], settings)
            self.requests += 1
            names.append(f"{request.name}-0123abcd")
            self.llm_engine.running[names[-1]] = request
        return names

    def generate(self, prompts: Any, sampling_params: Any = None, **given: Any) -> list[Any]:
        _known("LLM.generate", list(given))
        self.enqueue(prompts, sampling_params)
        outputs = []
        while self.llm_engine.has_unfinished_requests():
            outputs += self.llm_engine.step()
        return sorted(outputs, key=lambda output: int(output.request_id))


class LLMEngine:
    """Steps through the requests that run."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.running: dict[str, Request] = {}
        self.seen: list[list[int]] = []
        self.aborted: list[str] = []
        self.fails_with = ""

    def has_unfinished_requests(self) -> bool:
        return bool(self.running)

    def step(self) -> list[Any]:
        outputs = []
        for name, request in list(self.running.items()):
            output = request.step()
            if self.fails_with:
                output = request.output(self.fails_with)
            if output is not None:
                del self.running[name]
                outputs.append(output)
        return outputs

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        assert internal, "names with a random part are internal ones"
        for name in request_ids:
            self.running.pop(name, None)  # one that has just finished is not an error there
            self.aborted.append(name)


class Request:
    """One request: its tokens, its text so far, its dice."""

    def __init__(self, llm: LLM, name: str, ids: list[int], settings: Any) -> None:
        limit = llm.model_config.max_model_len
        if not 0 < len(ids) < limit:
            raise ValueError(f"the prompt (length {len(ids)}) is longer than {limit}")
        self.llm, self.name, self.ids, self.settings = llm, name, ids, settings
        self.new: list[int] = []
        self.text = ""
        self.stream = DecodeStream(ids=ids, skip_special_tokens=True)
        self.dice = torch.Generator().manual_seed(settings.seed or 0)
        self.cached = 0
        seen = llm.llm_engine.seen
        if settings.prompt_logprobs is None:
            shared = max((len(commonprefix([ids[:-1], other])) for other in seen), default=0)
            self.cached = shared // _BLOCK * _BLOCK
        seen.append(ids)

    def step(self) -> Any:
        token = self._next()
        self.new.append(token)
        ends = {self.llm.tokenizer.eos_token_id, *(self.settings.stop_token_ids or ())}
        if token in ends:
            return self.output("stop")
        before = len(self.text)
        self.text += self.stream.step(self.llm.tokenizer._tokenizer, token) or ""
        for mark in self.settings.stop or ():
            at = self.text.find(mark, max(0, before + 1 - len(mark)))
            if at >= 0:
                self.text = self.text[:at]
                return self.output("stop")
        full = len(self.ids) + len(self.new) >= self.llm.model_config.max_model_len
        if len(self.new) >= self.settings.max_tokens or full:
            return self.output("length")
        return None

    def output(self, reason: str) -> Any:
        assert reason in API["finish reasons"]
        completion = {
            "text": self.text if self.settings.detokenize else "",
            "token_ids": list(self.new),
            "finish_reason": reason,
            "stop_reason": None,
        }
        _known("CompletionOutput", list(completion))
        given = {
            "request_id": self.name,
            "prompt_logprobs": self._prompt_logprobs(),
            "outputs": [SimpleNamespace(**completion)],
            "finished": True,
            "num_cached_tokens": self.cached,
        }
        _known("RequestOutput.__init__", list(given))
        return SimpleNamespace(**given)

    def _logits(self, ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.llm.model(input_ids=torch.tensor([ids])).logits[0]
        return logits.float()

    def _next(self) -> int:
        settings, known = self.settings, [*self.ids, *self.new]
        logits = self._logits(known)[-1].clone()
        if settings.repetition_penalty != 1:
            used, penalty = sorted(set(known)), settings.repetition_penalty
            old = logits[used]
            logits[used] = torch.where(old > 0, old / penalty, old * penalty)
        if settings.temperature == 0:
            return int(logits.argmax())
        shares, order = (logits / settings.temperature).softmax(0).sort(descending=True)
        kept = shares.cumsum(0) - shares < settings.top_p
        drawn = torch.multinomial(shares * kept, 1, generator=self.dice)
        return int(order[drawn])

    def _prompt_logprobs(self) -> Any:
        if self.settings.prompt_logprobs is None:
            return None
        return [None, *self._scores()]

    def _scores(self) -> Iterator[dict[int, Any]]:
        logprobs = self._logits(self.ids)[:-1].log_softmax(1)
        for values, token in zip(logprobs, self.ids[1:], strict=True):
            rank = int((values > values[token]).sum()) + 1
            score = {"logprob": float(values[token]), "rank": rank, "decoded_token": None}
            _known("Logprob", list(score))
            yield {token: SimpleNamespace(**score)}


def stand_in() -> Any:
    """A fresh module, as `import vllm` would give it."""
    module: Any = ModuleType("vllm")
    module.__version__ = API["version"]
    module.SamplingParams, module.TokensPrompt = SamplingParams, TokensPrompt
    module.LLM = type("LLM", (LLM,), {"started": []})
    return module
