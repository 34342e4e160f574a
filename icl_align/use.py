"""What one does with a pack or a prompt text, without a run: answer with it, look for mistakes in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from icl_align.assemble import build_engine
from icl_align.config import Experiment
from icl_align.data import read_examples, read_text
from icl_align.engines import Tokenizing
from icl_align.errors import UserError
from icl_align.lint import lint, lint_text
from icl_align.pack import Pack
from icl_align.retrieval import RetrievalPack
from icl_align.types import Example

_CHUNK = 256
"""Examples that an engine is given at once: what has been answered before a kill is not lost."""


def answers(
    pack: Pack | RetrievalPack, examples: Sequence[Example], model: str | None
) -> list[dict[str, Any]]:
    """Answers examples with a pack's prompt and its model, or another one.

    Raises:
        UserError: the pack names no model and none is given, or it cannot be loaded.
    """
    return list(answering(pack, examples, model))


def answering(
    pack: Pack | RetrievalPack, examples: Sequence[Example], model: str | None
) -> Iterator[dict[str, Any]]:
    """Gives the same in the examples' order, part by part as they are answered.

    Raises:
        UserError: as `answers`.
    """
    whole = pack.pack if isinstance(pack, RetrievalPack) else pack
    name = model or whole.model.get("id")
    if not name:
        raise UserError("this pack names no model; give one with --model FOLDER or a Hub id")
    engine = build_engine(Experiment.for_model(str(name)))
    prompts = (
        pack.prompts(examples) if isinstance(pack, RetrievalPack) else [pack.prompt] * len(examples)
    )
    texts = [prompt.render(example) for prompt, example in zip(prompts, examples, strict=True)]
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        responses = engine.generate(
            texts[part], stop=pack.prompt.stop, decoding=pack.prompt.decoding
        )
        for example, response in zip(examples[part], responses, strict=True):
            yield {
                "id": example.id,
                "query": example.query,
                "answer": pack.prompt.parse(response.text),
                "tokens": response.tokens,
                "finish": response.finish,
            }


def lint_file(path: Path, items: Path | None, model: str | None) -> list[dict[str, Any]]:
    """Lints a pack or a URIAL text, against evaluation items and a model's context where given."""
    known = read_examples(items) if items else []
    engine = build_engine(Experiment.for_model(model)) if model else None
    sized = engine if isinstance(engine, Tokenizing) else None
    look = partial(
        lint if path.suffix == ".json" else lint_text,
        items=known,
        longest_query=max((item.query for item in known), key=len, default=""),
        count_tokens=sized.count_tokens if sized else None,
        context_length=sized.context_length if sized else None,
    )
    found = (
        look(Pack.load(path).prompt) if path.suffix == ".json" else look(read_text(path), str(path))
    )
    return [asdict(finding) for finding in found]
