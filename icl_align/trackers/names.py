"""Finds a tracker by its name in `--track`."""

from __future__ import annotations

import importlib
from typing import Any, cast

from icl_align.errors import UserError
from icl_align.parts import call_part, load_part
from icl_align.trackers.base import Tracker

NAMES = ("mlflow", "wandb")


def make_tracker(name: str) -> Tracker:
    """Makes a tracker; a client is imported here, and nothing is sent yet.

    Args:
        name: "mlflow", "wandb", or `module:attr` or `file.py:attr`, called without arguments.

    Raises:
        UserError: no such tracker, or its client is not installed.
    """
    if name == "mlflow":
        from icl_align.trackers.to_mlflow import MLflowTracker

        return MLflowTracker(_client("mlflow"))
    if name == "wandb":
        from icl_align.trackers.to_wandb import WandbTracker

        return WandbTracker(_client("wandb"))
    if ":" not in name:
        raise UserError(
            f"--track takes {', '.join(NAMES)}, 'module:attr' or 'file.py:attr', got {name!r}"
        )
    made = call_part(load_part("tracker", name), f"--track {name}", {})
    for method in ("start", "trials", "end", "proved", "close"):
        if not callable(getattr(made, method, None)):
            raise UserError(f"--track {name}: what it makes has no method {method!r}")
    return cast("Tracker", made)


def _client(package: str) -> Any:
    """Imports a client.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(
            f"--track {package} needs its client, which is not installed; "
            f"pip install 'icl-align[{package}]'"
        ) from None
