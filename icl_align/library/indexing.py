"""Makes retrieval packs of a pack and a pool, and measures what choosing exemplars costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_align.assemble import build_engine
from icl_align.config import Experiment
from icl_align.data import read_examples
from icl_align.errors import UserError
from icl_align.pack import Pack
from icl_align.retrieval import Recipe, RetrievalPack, build
from icl_align.retrieval.cost import sharing_cost
from icl_align.scorers.embedding import EmbeddingScorer


def indexed(pack: Pack, pool: Path, recipe: Recipe) -> RetrievalPack:
    """Gives a pack's system text, format and decoding exemplars from a pool.

    The evidence stays behind: it was measured with other exemplars.

    Raises:
        UserError: the pool cannot be read, an entry has no answer, or it holds fewer than k.
    """
    entries = read_examples(pool)
    for number, entry in enumerate(entries, start=1):
        if not (entry.answer and entry.answer.strip()):
            raise UserError(
                f"{pool}: entry {number} ({entry.query[:40]!r}) has no answer, so it is no exemplar"
            )
    shown = tuple(replace(entry, checks=()) for entry in entries)
    prompt = replace(pack.prompt, exemplars=shown, layouts=())
    return build(Pack(prompt, pack.model), recipe, EmbeddingScorer())


def measured(pack: RetrievalPack, items: Path, model: str | None) -> dict[str, Any]:
    """Measures on examples what choosing exemplars costs, with the pack's model or another.

    Raises:
        UserError: the examples cannot be read, or no model is named.
    """
    name = model or pack.pack.model.get("id")
    if not name:
        raise UserError("this pack names no model; give one with --model FOLDER or a Hub id")
    examples = read_examples(items)
    experiment = Experiment.for_model(str(name))
    return sharing_cost(pack, examples, lambda: build_engine(experiment)).to_json()


def cost_text(found: Mapping[str, Any]) -> str:
    """Tells `measured` in a few lines."""
    lines = [f"{'':8}{'prompt':>9}{'reused':>9}{'computed':>10}{'seconds':>9}"]
    for name in ("fixed", "chosen"):
        row = found[name]
        lines.append(
            f"{name:8}{row['prompt']:>9}{row['reused']:>9}{row['computed']:>10}{row['seconds']:>9.2f}"
        )
    lines.append(
        f"choosing {found['k']} exemplars per query computes {found['computed_ratio']:.1f} times the "
        f"prompt tokens and takes {found['seconds_ratio']:.1f} times the time "
        f"({found['choosing_s']:.2f} s of it to choose)"
    )
    return "\n".join(lines)
