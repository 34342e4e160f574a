"""Verbs about packs beyond a run: packs list, show, diff, compare; index; push, pull."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icl_align.cli._app import AsJson, as_text
from icl_align.errors import UserError

if TYPE_CHECKING:
    from icl_align.pack import Pack

packs_app = typer.Typer(no_args_is_help=True, help="Packs by name: list, show, diff, compare.")
PackName = Annotated[
    str, typer.Argument(metavar="PACK", help="A pack's file, or the name of a shipped one.")
]
OtherPack = Annotated[str, typer.Argument(metavar="OTHER", help="Another one.")]
ModelName = Annotated[str | None, typer.Option(help="A model's folder or Hub id.")]
Repo = Annotated[str, typer.Argument(metavar="REPO", help="A repository: OWNER/NAME.")]


@packs_app.command("list", short_help="The packs that come with icl-align.")
def list_packs(*, as_json: AsJson = False) -> None:
    """Lists the packs that icl-align ships; their names stand wherever a pack's file is asked for.

    Example: icl-align packs list
    """
    from icl_align.library.told import list_table, listed

    rows = listed()
    typer.echo(as_text({"packs": rows}) if as_json else list_table(rows))


@packs_app.command("show", short_help="What a pack is and what stands in it.")
def show_pack(pack: PackName, *, as_json: AsJson = False) -> None:
    """Tells what a pack is and what stands in it.

    Example: icl-align packs show safe
    """
    from icl_align.library import load_pack
    from icl_align.library.told import described, shown
    from icl_align.retrieval import RetrievalPack

    one = load_pack(pack)
    whole = one.pack if isinstance(one, RetrievalPack) else one
    typer.echo(as_text({**described(one), "pack": whole.to_json()}) if as_json else shown(one))


@packs_app.command("diff", short_help="How two packs differ.")
def diff_packs(
    pack: PackName, other: OtherPack, model: ModelName = None, *, as_json: AsJson = False
) -> None:
    """Says how a pack differs from another: words, exemplars, format, decoding, tokens, scores.

    Example: icl-align packs diff baseline runs/first/pack.json
    """
    from icl_align.assemble import build_engine
    from icl_align.config import Experiment
    from icl_align.engines import Tokenizing
    from icl_align.library.diff import difference, difference_text

    engine = build_engine(Experiment.for_model(model)) if model else None
    count = engine.count_tokens if isinstance(engine, Tokenizing) else None
    found = difference(_plain(pack), _plain(other), count)
    typer.echo(as_text(found) if as_json else difference_text(found))


@packs_app.command("compare", short_help="How much better one pack is, with an interval.")
def compare_packs(
    pack: PackName,
    other: OtherPack,
    on: Annotated[Path, typer.Option(help="Examples to answer: JSONL, CSV or URIAL text.")],
    model: ModelName = None,
    objective: Annotated[
        Path | None,
        typer.Option(help="A TOML file with [objective.NAME] tables; an experiment file will do."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    *,
    as_json: AsJson = False,
) -> None:
    """Answers the same examples with two packs and bounds how much better the first one is.

    Example: icl-align packs compare tuned.json baseline --on test.jsonl --model bundled
    """
    from icl_align.library import load_pack
    from icl_align.library.comparing import compare_packs as run_both
    from icl_align.library.comparing import comparison_text
    from icl_align.live import shares

    if pack == other:
        raise UserError(f"packs compare takes two different packs, got {pack!r} twice")
    both = {name: load_pack(name) for name in (pack, other)}
    with shares("compare", quiet=as_json) as update:
        found = run_both(both, on, model=model, objective=objective, seed=seed, on_share=update)
    typer.echo(as_text(found) if as_json else comparison_text(found))


def index(
    pack: PackName,
    pool: Annotated[
        Path, typer.Option(help="Exemplars to choose from: JSONL, CSV or URIAL text, with answers.")
    ],
    to: Annotated[Path, typer.Option(help="NAME.json; NAME.index.safetensors stands beside it.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Exemplars per query.")] = 3,
    method: Annotated[str, typer.Option(help="nearest, mmr or bm25.")] = "nearest",
    trade: Annotated[
        float, typer.Option(min=0, max=1, help="mmr: the weight of near against unlike.")
    ] = 0.5,
    nearest_last: Annotated[bool, typer.Option(help="Show the nearest one last.")] = True,
    cost: Annotated[
        Path | None, typer.Option(help="Examples on which to measure what choosing costs.")
    ] = None,
    model: ModelName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Makes a retrieval pack: a pack's system text and format, exemplars chosen per query from a pool.

    Example: icl-align index helpful --pool pool.jsonl --to near.json -k 3
    """
    from icl_align.library.indexing import cost_text, indexed, measured
    from icl_align.retrieval import Recipe, save

    recipe = Recipe(method, k, trade, nearest_last)  # type: ignore[arg-type]  # it looks at it
    made = indexed(_plain(pack), pool, recipe)
    files = [str(file) for file in save(made, to)]
    found: dict[str, Any] = {"files": files, "digest": made.digest, "pool": len(made.vectors)}
    if cost is not None:
        found["cost"] = measured(made, cost, model)
    told = [f"wrote {' and '.join(files)} ({len(made.vectors)} exemplars, {k} per query)"]
    if cost is not None:
        told.append(cost_text(found["cost"]))
    typer.echo(as_text(found) if as_json else "\n".join(told))


def push(
    pack: PackName,
    repo: Repo,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the card; nothing is sent.")
    ] = False,
    message: Annotated[str, typer.Option(help="The commit's message.")] = "Pack by icl-align",
    *,
    as_json: AsJson = False,
) -> None:
    """Uploads a pack with a card to the Hugging Face Hub, privately; the token is HF_TOKEN's.

    Example: icl-align push tuned.json me/my-pack --dry-run
    """
    from icl_align.hub import card, publishable
    from icl_align.hub import push as send

    one = _plain(pack)
    if dry_run:
        text = card(publishable(one), repo)
        if as_json:
            typer.echo(as_text({"repo": repo, "card": text}))
        else:
            sys.stdout.buffer.write(text.encode("utf-8"))
            sys.stdout.buffer.flush()
        return
    found = send(one, repo, private=not public, message=message)
    typer.echo(as_text(found) if as_json else f"pushed to {found['url']} ({found['visibility']})")


def pull(
    repo: Repo,
    to: Annotated[Path | None, typer.Option(help="FILE.json; NAME.json by default.")] = None,
    revision: Annotated[str, typer.Option(help="A branch, tag or commit.")] = "main",
    digest: Annotated[
        str | None, typer.Option(help="The prompt's digest, or its start; refused if another.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file.")] = False,
    *,
    as_json: AsJson = False,
) -> None:
    """Downloads a pack from the Hugging Face Hub and checks it; nothing in it is run.

    Example: icl-align pull someone/their-pack --to theirs.json
    """
    from icl_align.hub import pull as fetch

    place = to or Path(f"{repo.rpartition('/')[2]}.json")
    found = fetch(repo, place, revision=revision, digest=digest, overwrite=force)
    typer.echo(as_text(found) if as_json else f"wrote {found['file']}, digest {found['digest']}")


def _plain(name: str) -> Pack:
    """A pack as it stands in its file; an index is told to be one."""
    from icl_align.library import find_pack
    from icl_align.pack import Pack
    from icl_align.retrieval import is_index

    path = find_pack(name)
    if is_index(path):
        raise UserError(f"{name} is an index; name the pack beside it (the .json)")
    return Pack.load(path)
