"""What a pack's page on the Hub says, and what of a pack is nobody's business."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.passport.plain import printable

_SHOWN = 20_000
"""Characters of the prompt that the card shows."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_MEASURED = {
    "dev": "dev",
    "confirm": "confirm",
    "test": "test",
    "tuned": "this prompt, on untouched examples",
    "baseline": "the hand-written prompt, on the same",
    "difference": "difference (paired)",
}


def check_repo(repo: str) -> None:
    """Refuses what is no repository's name.

    Raises:
        UserError: saying why.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"{repo!r} is no repository of the Hub: {error}") from error
    if repo.count("/") != 1:
        raise UserError(f"a repository is named OWNER/NAME, got {repo!r}")


def publishable(pack: Pack) -> Pack:
    """Gives the pack without the path of a model's folder, which is nobody's business: its name stays."""
    model = pack.model.get("id")
    if not isinstance(model, str) or (_HUB_ID.fullmatch(model) and not Path(model).exists()):
        return pack
    return replace(pack, model={**pack.model, "id": re.split(r"[/\\]", model.rstrip("/\\"))[-1]})


def card(pack: Pack, repo: str) -> str:
    """Gives the card, a README.md: what it is, what was measured, and how to use it.

    Texts of the pack stand in a code block that none of them can end.

    Raises:
        UserError: the repository's name is none.
    """
    from huggingface_hub import ModelCardData

    check_repo(repo)
    model = pack.model.get("id")
    base = model if isinstance(model, str) and _HUB_ID.fullmatch(model) else None
    head = ModelCardData(base_model=base, library_name="icl-align", tags=["icl-align", "urial"])
    prompt, name = pack.prompt, repo.rpartition("/")[2]
    text = printable(prompt.to_text())
    cut = f"\n[{len(text) - _SHOWN} more characters]" if len(text) > _SHOWN else ""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    seen = _in_code(str(model)) if model else "no particular one"
    parts = [
        f"---\n{head.to_yaml()}\n---\n",
        f"# {name}\n",
        (
            "A prompt for base language models (URIAL style), made with icl-align: "
            f"exemplars: {len(prompt.exemplars)}, format: {_in_code(prompt.format.name)}. "
            f"Model: {seen}.\n"
        ),
        "Digest of prompt and decoding (sha256): " + f"`{prompt.digest}`\n",
        "## Evidence\n",
        _evidence(pack.evidence),
        "## Use\n",
        (
            "```sh\n"
            f"icl-align pull {repo} --to {name}.json --digest {prompt.digest}\n"
            f'icl-align answer {name}.json --query "How do I boil an egg?"\n'
            "```\n"
        ),
        "## The prompt\n",
        f"{fence}text\n{text[:_SHOWN]}{cut}\n{fence}\n",
    ]
    return "\n".join(parts)


def _evidence(evidence: Mapping[str, Any]) -> str:
    """What was measured, as a table; nothing that is no number is taken over."""
    rows = []
    for key, name in _MEASURED.items():
        value = evidence.get(key)
        if not isinstance(value, Mapping) or not _number(value.get("mean")):
            continue
        cells = [
            f"{value[k]:.4g}" if _number(value.get(k)) else "" for k in ("mean", "low", "high")
        ]
        count = str(value["n"]) if _number(value.get("n")) else ""
        rows.append(f"| {name} | {' | '.join(cells)} | {count} |")
    if not rows:
        return "Nothing was measured.\n"
    proved = evidence.get("confirmed") is True
    note = "Proved" if proved else "Not proved"
    table = ["| | mean | low | high | n |", "|---|---|---|---|---|", *rows]
    return "\n".join([*table, "", f"{note} on examples that the search never saw.\n"])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_code(text: str) -> str:
    return f"`{' '.join(printable(text).replace('`', ' ').split())[:200]}`"
