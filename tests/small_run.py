"""A small run whose scores are known: an engine that adds up what a prompt holds, and hostile texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icl_align.config import Experiment
from icl_align.run import Run, start

HOSTILE = "</pre></script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\u202eabc\x1b[31m {{ 7*7 }} --><!--"
"""Stands in every answer, in an instruction, in a tag and in an exemplar."""
WORTH = (0.05, 0.1, 0.2, 0.0)
"""What each exemplar adds; the third and the second together add a tenth more."""
PARTS = '''
"""An engine that answers with a number made of its prompt, and a scorer that reads it."""
from pathlib import Path
from icl_align.types import Response, Score

HOSTILE = {hostile!r}

class Adding:
    name = fingerprint = "adding-1"
    def __init__(self, model):
        pass
    def generate(self, prompts, *, stop, decoding):
        with Path(__file__).with_suffix(".asked").open("a") as file:
            file.writelines(f"{{self.number(p)}}\\n" for p in prompts)
        return [Response(f"{{self.value(p):.4f}} {{HOSTILE}}", 5, "stop", 10, 4) for p in prompts]
    def value(self, prompt):
        there = [f"Answer {{i}}." in prompt for i in range(4)]
        value = 0.1 + sum(w for w, t in zip({worth!r}, there) if t) + 0.1 * (there[1] and there[2])
        value += 0.05 * (prompt.startswith("# Instruction") and "Be kind" in prompt)
        value += 0.02 * (there[1] and there[2] and prompt.index("Answer 1.") < prompt.index("Answer 2."))
        return value + 0.01 * (self.number(prompt) % 7)
    def number(self, prompt):
        last = prompt.rsplit("Question ", 1)[-1].split("?")[0]
        return int(last) if last.isdigit() else 0

class Reading:
    name = fingerprint = "reading-1"
    def score(self, examples, responses):
        return [
            Score(None, note="lost") if e.id.endswith("13") else
            Score(float(r.text.split()[0]), {{"checks": 0.5, HOSTILE[:20]: 1.0}})
            for e, r in zip(examples, responses)
        ]
'''


def small_experiment(folder: Path, *, dev: int = 20, **changes: Any) -> Experiment:
    """Writes the files of an experiment and gives it; `changes` replace whole tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts.py").write_text(PARTS.format(hostile=HOSTILE, worth=WORTH), "utf-8")
    pool = [{"query": f"Exemplar {i}", "answer": f"Answer {i}.", "id": f"x{i}"} for i in range(4)]
    _write(folder / "pool.jsonl", [*pool[:3], {**pool[3], "query": f"Exemplar 3 {HOSTILE}"}])
    for place, (split, count) in enumerate((("dev", dev), ("confirm", 15), ("test", 15))):
        rows = [
            {
                "query": f"{split}: {HOSTILE if i == 0 else ''} Question {10_000 * place + i}?",
                "id": f"{split}-{i}",
                "tags": ["even" if i % 2 == 0 else "odd", HOSTILE],
            }
            for i in range(count)
        ]
        _write(folder / f"{split}.jsonl", rows)
    content: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "seed": 0,
        "model": {"id": "none", "engine": f"{folder / 'parts.py'}:Adding"},
        "data": {name: f"{name}.jsonl" for name in ("dev", "confirm", "test")},
        "space": {
            "systems": ["Be kind.", "Be brief.", ""],
            "pool": "pool.jsonl",
            "k": [0, 3],
            "formats": ["block", "colon"],
        },
        "objective": {"reading": {"weight": 1, "scorer": f"{folder / 'parts.py'}:Reading"}},
        "search": {"sampler": "random", "trials": 30},
        "confirm": {"finalists": 2, "baselines": {"zero-shot": "zero-shot"}, "main": "zero-shot"},
    } | changes
    return Experiment.from_json(content, base=folder)


def small_run(folder: Path, **changes: Any) -> Run:
    """Runs it."""
    run = start(small_experiment(folder, **changes), folder / "run")
    run.sweep()
    return run


def asked(run: Run) -> list[int]:
    """The numbers of the instructions that the engine has been asked, one per generation.

    Those of dev begin at 0, of confirm at 10,000, of test at 20,000.
    """
    place = run.folder.parent / "parts.asked"
    return [int(line) for line in place.read_text().split()] if place.exists() else []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
