"""Serves a base model with a pack inside: an existing engine, told of the pack by a folder.

The folder is the export `hf-folder`, made for the time of serving, its weights linked. Nothing of
ours runs while the engine answers: template, decoding, stop strings and the pattern that ends an
answer are all read by the engine. `transformers serve` reads all of them; vLLM reads neither stop
strings nor the pattern, so its clients send `Served.stop`, which cuts both.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from icl_align.errors import UserError
from icl_align.export import NotInstalledError
from icl_align.export.hf_folder import EXPORTER
from icl_align.pack import Pack
from icl_align.prompt import Prompt

ENGINES = ("transformers", "vllm")
"""The engines that can be started; the first that is installed is taken where none is named."""
_PARTS = {"transformers": ("fastapi", "uvicorn", "openai"), "vllm": ("vllm",)}
_PATIENCE_S = 0.25
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers.

    Attributes:
        url: Its base URL for clients, which ends in /v1.
        model: Under which name clients ask for it.
        engine: "transformers" or "vllm".
        stop: What a client sends as `stop` where the engine has no stop strings of its own; empty
            where it needs none.
        process: The engine's process.
    """

    url: str
    model: str
    engine: str
    stop: tuple[str, ...]
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def serving(
    pack: Pack,
    model: str | None = None,
    *,
    engine: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    device: str = "auto",
    name: str = "pack",
    wait_s: float = 900.0,
    log: IO[bytes] | None = None,
) -> Iterator[Served]:
    """Starts an engine with a pack, waits until it is healthy, and ends it behind the block.

    Args:
        pack: The pack.
        model: Another model than the pack's: a folder, a Hub id or "bundled".
        engine: One of `ENGINES`; None takes the first that is installed.
        host: Where it listens.
        port: On which port; 0 takes a free one.
        device: "auto", "cpu", "cuda", ...; for `transformers` only.
        name: Under which name clients ask for the model.
        wait_s: Most seconds until it must be healthy.
        log: Where the engine writes; None is this process's standard error.

    Raises:
        UserError: nothing to serve, no engine, or an engine that ended or was not healthy in time.
    """
    chosen = pick_engine(engine)
    called = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "pack"
    listen = _port(host, port)
    with tempfile.TemporaryDirectory(prefix="icl-align-serve-") as scratch:
        place = Path(scratch)
        EXPORTER.write(pack, place / called, model=model, weights="link")
        process = subprocess.Popen(  # noqa: S603 - a list, no shell
            _command(chosen, called, host, listen, device),
            cwd=place,
            env=_environment(place),
            stdin=subprocess.DEVNULL,
            stdout=log or sys.stderr.fileno(),
            stderr=log or sys.stderr.fileno(),
            start_new_session=True,  # a Ctrl-C reaches it once, through us
        )
        try:
            root = f"http://{f'[{host}]' if ':' in host else host}:{listen}"
            _wait(process, root, wait_s)
            yield Served(f"{root}/v1", called, chosen, client_stop(pack.prompt, chosen), process)
        finally:
            _end(process)


def pick_engine(name: str | None) -> str:
    """Gives the engine to start.

    Raises:
        UserError: an unknown one.
        NotInstalledError: it, or any, is not installed.
    """
    if name is not None and name not in ENGINES:
        raise UserError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    for candidate in ENGINES if name is None else (name,):
        if _program(candidate) and all(find_spec(part) for part in _PARTS[candidate]):
            return candidate
    extra = "vllm" if name == "vllm" else "serve"
    raise NotInstalledError(
        f"{name or 'an engine that serves'} is not installed; pip install 'icl-align[{extra}]'"
    )


def client_stop(prompt: Prompt, engine: str) -> tuple[str, ...]:
    """Gives the stop strings that a client of an engine must send.

    The closing of an answer stands before each, first: so vLLM, which leaves the text of the first
    one that it finds out of its reply, gives the answer alone.
    """
    if engine == "transformers":
        return ()
    closing = prompt.format.answer_close
    return (*(closing + mark for mark in prompt.stop if closing), *prompt.stop)


def _program(engine: str) -> str | None:
    """The engine's command: the one beside this Python first."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(engine, path=beside) or shutil.which(engine)


def _command(engine: str, model: str, host: str, port: int, device: str) -> list[str]:
    program = _program(engine)
    assert program is not None
    place = ["--host", host, "--port", str(port)]
    if engine == "vllm":
        return [program, "serve", model, "--served-model-name", model, *place]
    # On a CPU answers are computed in float32, as `icl-align answer` does.
    exact = ["--dtype", "float32"] if _on_cpu(device) else []
    return [program, "serve", model, "--device", device, *exact, *place]


def _on_cpu(device: str) -> bool:
    if device != "auto":
        return device == "cpu"
    import torch

    return not torch.cuda.is_available()


def _environment(place: Path) -> dict[str, str]:
    """The engine's environment: everything it needs is local, and a cache folder is there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    if not Path(HF_HUB_CACHE).is_dir():  # `GET /v1/models` of transformers fails without one
        (place / "hub").mkdir()
        env["HF_HUB_CACHE"] = str(place / "hub")
    return env


def _port(host: str, port: int) -> int:
    """A port that can be listened on: the given one, or, for 0, any that is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}, port {port}: {error.strerror}; choose another with --port"
            ) from error
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], root: str, wait_s: float) -> None:
    import httpx

    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise UserError(
                f"the engine ended with code {process.returncode} before it served; its last lines "
                "say why"
            )
        with contextlib.suppress(httpx.TransportError):
            if (
                httpx.get(f"{root}/health", timeout=5, trust_env=False).status_code
                == httpx.codes.OK
            ):
                return
        time.sleep(_PATIENCE_S)
    raise UserError(
        f"the engine was not healthy after {wait_s:.0f} s; give it longer, or see its log"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the engine: asked first, then made to."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
