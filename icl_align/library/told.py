"""What `packs list` and `packs show` tell of packs."""

from __future__ import annotations

from typing import Any

from icl_align.library.finding import ABOUT, load_pack, shipped
from icl_align.pack import Pack
from icl_align.passport.plain import gutter, printable
from icl_align.prompt import rough_tokens
from icl_align.retrieval import RetrievalPack


def listed() -> list[dict[str, Any]]:
    """The shipped packs, by name: what each is, and how long."""
    return [
        {"name": name, "about": about, **described(load_pack(name)), "file": str(shipped(name))}
        for name, about in ABOUT.items()
    ]


def described(pack: Pack | RetrievalPack) -> dict[str, Any]:
    """What there is to say of a pack: format, exemplars, length, model, what it was measured at.

    "tokens" is about how many a query's prompt has before the query, four bytes counted as one;
    None for a retrieval pack, where it depends on the query.
    """
    chosen = isinstance(pack, RetrievalPack)
    whole = pack.pack if isinstance(pack, RetrievalPack) else pack
    prompt = whole.prompt
    return {
        "digest": pack.digest if isinstance(pack, RetrievalPack) else prompt.digest,
        "format": prompt.format.name,
        "exemplars": pack.recipe.k if isinstance(pack, RetrievalPack) else len(prompt.exemplars),
        "pool": len(prompt.exemplars) if chosen else None,
        "system_words": len(prompt.system.split()),
        "tokens": None if chosen else rough_tokens(prompt.to_text()),
        "model": whole.model.get("id"),
        "confirmed": whole.evidence.get("confirmed") is True,
    }


def list_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `listed` as lines of text."""
    head = f"{'name':10}{'K':>3}{'tokens':>8}  about"
    return "\n".join(
        [head, *(f"{r['name']:10}{r['exemplars']:>3}{r['tokens']:>8}  {r['about']}" for r in rows)]
    )


def shown(pack: Pack | RetrievalPack) -> str:
    """A pack for people: figures, system text and exemplars; nothing in it can steer a terminal."""
    whole = pack.pack if isinstance(pack, RetrievalPack) else pack
    lines = [f"{key:13}{printable(str(value))}" for key, value in described(pack).items()]
    lines += ["", "system", gutter(whole.prompt.system) if whole.prompt.system else "  (none)"]
    for number, one in enumerate(whole.prompt.exemplars, start=1):
        for turn in one.turns:
            lines += ["", f"exemplar {number}, earlier turn", gutter(turn.query)]
            lines += ["answer", gutter(turn.answer)]
        lines += ["", f"exemplar {number}", gutter(one.query), "answer", gutter(one.answer or "")]
    return "\n".join(lines)
