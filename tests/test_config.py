"""Experiment files: read exactly, and refused with file, table and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_align.config import (
    USUAL_GENERATIONS,
    Experiment,
    bundled_experiment,
    load_experiment,
)
from icl_align.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "experiments").glob("*.toml"))

TEXT = """
version = 1
name = "mine"
seed = 3

[model]
id = "org/model"

[data]
dev = "dev.jsonl"
test = "test.jsonl"

[space]
systems = ["", "Be kind."]
pool = "pool.jsonl"
k = 2
temperatures = [0, 0.5]

[objective.checklist]
weight = 0.7

[objective.closeness]
scorer = "embedding"
weight = 0.3
options.floor = 0.1

[confirm.baselines]
zzz = "mine.txt"
aaa = "zero-shot"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dev.jsonl", "test.jsonl", "pool.jsonl", "mine.txt", "parts.py"):
        (tmp_path / name).write_text("", encoding="utf-8")
    return tmp_path


def _load(folder: Path, text: str) -> Experiment:
    (folder / "e.toml").write_text(text, encoding="utf-8")
    return load_experiment(folder / "e.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_are_valid(path: Path) -> None:
    """Every experiment file of the project loads, and survives JSON."""
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert Experiment.from_json(json.loads(json.dumps(experiment.to_json()))) == experiment


def test_three_kinds_of_experiment_are_shipped() -> None:
    """The bundled model, a small Hub model, a 7-8B one."""
    assert {"bundled", "smollm2-135m", "mistral-7b"} <= {path.stem for path in SHIPPED}


def test_the_quickstart_is_the_bundled_file() -> None:
    """`experiments/bundled.toml` is what quickstart runs, in a form that can be edited."""
    assert load_experiment(ROOT / "experiments" / "bundled.toml") == bundled_experiment(0)
    assert bundled_experiment(4).seed == 4


def test_values_and_defaults(folder: Path) -> None:
    """Relative files start from the experiment file; one K is a band; the rest has defaults."""
    experiment = _load(folder, TEXT)
    assert experiment.seed == 3
    assert experiment.data.dev == str(folder / "dev.jsonl")
    assert experiment.space.pool == str(folder / "pool.jsonl")
    assert experiment.space.systems.texts == ("", "Be kind.")
    assert experiment.space.k == (2, 2)
    assert experiment.space.temperatures == (0.0, 0.5)
    assert experiment.objective["closeness"].options == {"floor": 0.1}
    assert experiment.model.engine == "hf"
    assert (experiment.search.generations, experiment.search.trials) == (2000, None)
    assert experiment.confirm.level == 0.95


def test_the_first_baseline_is_the_main_one_whatever_becomes_of_the_order(folder: Path) -> None:
    """The headline compares with the baseline that stands first, also after a sorted JSON file."""
    experiment = _load(folder, TEXT)
    assert experiment.confirm.main == "zzz"
    stored = json.loads(json.dumps(experiment.to_json(), sort_keys=True))
    assert Experiment.from_json(stored).confirm.main == "zzz"


def test_files_are_absolute_in_json_so_a_run_can_be_continued_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run folder keeps does not depend on the folder one stands in."""
    stored = _load(folder, TEXT).to_json()
    monkeypatch.chdir("/")
    assert Experiment.from_json(stored) == _load(folder, TEXT)


def test_parts_of_ones_own_are_found_beside_the_file(folder: Path) -> None:
    """`file.py:attr` starts from the experiment file; `module:attr` stays."""
    text = TEXT.replace('scorer = "embedding"', 'scorer = "parts.py:Own"')
    text = text.replace('id = "org/model"', 'id = "org/model"\nengine = "pkg.mod:make"')
    experiment = _load(folder, text)
    assert experiment.objective["closeness"].scorer == f"{folder / 'parts.py'}:Own"
    assert experiment.model.engine == "pkg.mod:make"


def test_a_model_folder_beside_the_file_is_found(folder: Path) -> None:
    """A folder becomes absolute; any other name is a Hub id."""
    (folder / "org" / "model").mkdir(parents=True)
    assert _load(folder, TEXT).model.id == str(folder / "org" / "model")


def test_override(folder: Path) -> None:
    """The command line's options replace the file's, 0 included, and are checked too."""
    experiment = _load(folder, TEXT)
    changed = experiment.override(trials=5, model="other/model", seed=0)
    assert (changed.search.trials, changed.model.id, changed.seed) == (5, "other/model", 0)
    assert experiment.search.generations == USUAL_GENERATIONS
    assert changed.search.generations is None
    assert experiment.override(sampler="random", batch=2).search.generations == USUAL_GENERATIONS
    assert experiment.override() == experiment
    with pytest.raises(
        UserError, match="command line: search.trials: .*greater than or equal to 1, got 0"
    ):
        experiment.override(trials=0)
    with pytest.raises(UserError, match=r"command line: model.id: there is no folder .*nowhere"):
        experiment.override(model="./nowhere")
    assert Experiment.for_model("some/model").model.id == "some/model"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("temperatures", "temperaturs", r"\[space\] has an unknown key 'temperaturs'; did you mean 'temperatures'\?"),
        ("weight = 0.7", "wieght = 0.7", r"\[objective\.checklist\] has an unknown key 'wieght'; did you mean 'weight'\?"),
        ("[confirm.baselines]", "[confrim.baselines]", r"the top of the file has an unknown key 'confrim'; did you mean 'confirm'\?"),
        ("seed = 3", "seed = 3\nxyzzy = 1", "unknown key 'xyzzy'; known are version, name"),
        ("seed = 3", 'seed = "3"', "seed: input should be a valid integer, got '3'"),
        ("seed = 3", "seed = true", "seed: input should be a valid integer, got True"),
        ("seed = 3", "seed = -1", "seed: .*greater than or equal to 0, got -1"),
        ("version = 1", "version = 2", "has version 2, this icl_align reads version 1"),
        ("version = 1", "", "has no version"),
        ('name = "mine"', 'name = "../mine"', "name: .*pattern"),
        ('pool = "pool.jsonl"', "", r"\[space\] lacks the key 'pool'"),
        ('"pool.jsonl"', '"pol.jsonl"', r"space\.pool: there is no file .*pol\.jsonl"),
        ("k = 2", "k = [0, 1, 2]", r"space\.k: .*at most 2 items"),
        ("k = 2", 'k = "2"', r"space\.k: "),
        ("[0, 0.5]", "[0, nan]", r"space\.temperatures\.1: .*finite number, got nan"),
        ("[0, 0.5]", "[-1]", r"space\.temperatures\.0: .*greater than or equal to 0, got -1"),
        ('["", "Be kind."]', '["", 3]', r"space\.systems\.1: input should be a valid string, got 3"),
        ("k = 2", 'k = 2\nformats = ["blok"]', r"space\.formats\.0: there is no format 'blok'; did you mean 'block'\?"),
        ("weight = 0.7", "weight = 0", r"objective\.checklist\.weight: .*greater than 0, got 0"),
        ('test = "test.jsonl"', "", "data: a winner is proved on untouched examples: give confirm or test"),
        ('dev = "dev.jsonl"', "", "data: give one of dev .*, got none"),
        ('dev = "dev.jsonl"\ntest = "test.jsonl"', 'source = "dev.jsonl"', r"to split source, \[data\.sizes\] needs dev"),
        ('dev = "dev.jsonl"', 'source = "dev.jsonl"', r"confirm and test are cut from source by \[data\.sizes\]"),
        ('dev = "dev.jsonl"', 'dev = "dev.jsonl"\nhub.name = "x"', r"give one of .*, got \['dev', 'hub'\]"),
        ('"mine.txt"', '"yours.txt"', r"confirm\.baselines\.zzz: there is no file .*yours\.txt"),
        ("[confirm.baselines]", '[confirm]\nmain = "none"\n[confirm.baselines]', "main is 'none', which is none of zzz, aaa"),
        ("[confirm.baselines]", '[confirm.baselines]\nwinner = "zero-shot"', "a baseline cannot be called 'winner'"),
        ('id = "org/model"', 'id = "org/model"\ndtype = "float8"', r"model\.dtype: .*'float32'.*, got 'float8'"),
        ("seed = 3", "seed = ", r"e\.toml:4:8: broken TOML"),
        ("seed = 3", "seed = 3\nseed = 4", r"e\.toml:\d+:\d+: broken TOML: Cannot overwrite"),
    ],
)  # fmt: skip
def test_mistakes_name_the_file_and_the_place(
    folder: Path, old: str, new: str, message: str
) -> None:
    """Each kind of mistake is one message with the file, the table, the key and the remedy."""
    assert old in TEXT
    with pytest.raises(UserError, match=message) as caught:
        _load(folder, TEXT.replace(old, new, 1))
    assert str(folder / "e.toml") in str(caught.value)


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    """A wrong encoding, a folder and a missing file are told plainly."""
    path = tmp_path / "e.toml"
    path.write_bytes("name = 'M\u00fcll'".encode("latin-1"))
    with pytest.raises(UserError, match=r"e\.toml: byte 9 is not UTF-8"):
        load_experiment(path)
    with pytest.raises(UserError, match="cannot read .*: Is a directory"):
        load_experiment(tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*absent\.toml: No such file"):
        load_experiment(tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [None, [], "x"])
def test_json_that_is_no_table(content: Any) -> None:
    """Stored JSON of another shape is refused too."""
    with pytest.raises(UserError, match="an experiment is a table, got"):
        Experiment.from_json(content)
