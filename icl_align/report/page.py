"""The page itself: one file, no requests, all texts of models escaped, only its own script runs."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

from icl_align import signs
from icl_align.errors import UserError
from icl_align.report.aspects import aspects, paired
from icl_align.report.clean import LONGEST, shown
from icl_align.report.collect import Collected, collect
from icl_align.report.plots import curve, differences, history, pareto, racing
from icl_align.report.telling import (
    GLOSS,
    because,
    changes,
    cost,
    headline,
    judges,
    reproduce,
    since_proof,
)
from icl_align.run import Run

_DASH = "\u2013"


def write_report(run: Run, place: Path) -> dict[str, Any]:
    """Writes a run's report, whole or not at all.

    Args:
        run: The run; it may still be going on.
        place: The file.

    Returns:
        "page", "headline", and counts of instructions, prompts, trials and bytes.

    Raises:
        UserError: nothing is measured yet, or the file cannot be written.
    """
    found = collect(run)
    page = rendered(found).encode("utf-8", "backslashreplace")
    partial = place.with_name(f"{place.name}.part")
    try:
        partial.write_bytes(page)
        partial.replace(place)
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror}; choose another --out") from error
    return {
        "page": str(place),
        "headline": headline(found)[0],
        "instructions": len(found.rows),
        "prompts": len(found.columns),
        "trials": len(found.trials),
        "bytes": len(page),
    }


def rendered(found: Collected) -> str:
    """Gives the page as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": shown,
        "answer": lambda text: shown(text, LONGEST),
        "number": number,
        "interval": interval,
        "sign": signs.signed,
        "signed": lambda value: signs.interval(value, _DASH),
        "turned": lambda value: signs.interval(signs.turned(value), _DASH),
    }
    script, style = _own("page.js"), _own("page.css")
    said, mood = headline(found)
    return environment.from_string(_own("page.html")).render(
        script=script,
        style=style,
        policy=_policy(script),
        headline=said,
        mood=mood,
        because=because(found.explanation),
        name=found.run.experiment.name,
        seed=found.run.experiment.seed,
        sampler=found.run.experiment.search.sampler,
        trials=found.trials,
        proof=found.proof,
        since=since_proof(found),
        prompt=found.pack.prompt,
        text=found.pack.prompt.to_text(),
        model=found.pack.model,
        versions=found.pack.evidence.get("versions", {}),
        baseline=found.baseline[0] if found.baseline else "",
        diff=changes(found.baseline[1], found.pack.prompt) if found.baseline else [],
        top=found.ranking[:10],
        cost=cost(found),
        judges=judges(found.run),
        commands=reproduce(found),
        grid=found.grid,
        splits=Counter(row.place[0] for row in found.rows),
        size=(len(found.rows), len(found.columns)),
        why=found.explanation,
        gloss=GLOSS,
        **_figures(found),
    )


def number(value: float | None) -> str:
    """Writes a figure for people."""
    return _DASH if value is None else f"{value:.3f}"


def interval(value: dict[str, Any] | None) -> str:
    """Writes a mean with its interval."""
    if value is None:
        return _DASH
    low, high = ("?" if value[end] is None else f"{value[end]:.3f}" for end in ("low", "high"))
    return f"{value['mean']:.3f} [{low}, {high}]"


def _figures(found: Collected) -> dict[str, Any]:
    by_role = {column.role: column.scores for column in found.columns if column.role}
    main = found.baseline[0] if found.baseline else ""
    sides = paired(by_role.get("winner", {}), by_role.get(main, {}))
    return {
        "differences": differences(found.proof) if found.proof else "",
        "history": history(found.trials),
        "racing": racing(found.trials),
        "pareto": pareto(found.ranking),
        "aspects": aspects(sides.rows, main),
        "aspect_rows": sides.rows,
        "aspect_split": sides.split,
        "curve": curve(found.explanation) if found.explanation else "",
    }


def _own(name: str) -> str:
    return files("icl_align.report").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """The page's rule to itself: no requests, and no script but the one with this digest."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
