"""What the importers share: a JSON file read with a place in each message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icl_align.data import read_text
from icl_align.errors import UserError


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: it cannot be read, is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: broken JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{path}: this JSON is nested too deeply") from error
    except ValueError as error:  # a number of too many digits
        raise error if isinstance(error, UserError) else UserError(f"{path}: {error}") from error
