"""The experiment file as a record: read, changed by the command line, written back."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from icl_align.config.aims import LIMITS, Confirm, Search, TermTable
from icl_align.config.mistakes import told
from icl_align.config.subject import Data, Model, SpaceTable
from icl_align.config.values import BUNDLED, ZERO_SHOT, Table
from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.prompt import FORMATS


class Experiment(Table):
    """One sweep, from model and data to proof.

    Attributes:
        version: Of the file's layout.
        name: For people; names the run folder.
        seed: Of the search, the splits and the bootstrap.
        database: An SQLAlchemy URL, where the run's own SQLite file is not wanted.
    """

    version: Literal[1]
    name: str = Field(pattern=r"^[\w][\w.-]*$")
    seed: int = Field(0, ge=0, lt=2**31)
    database: str | None = None
    model: Model
    data: Data
    space: SpaceTable
    objective: dict[str, TermTable] = Field(min_length=1)
    search: Search = Search()
    confirm: Confirm = Confirm()

    @staticmethod
    def from_json(
        content: Any, *, where: str = "experiment", base: Path | None = None
    ) -> Experiment:
        """Validates decoded TOML or JSON.

        Args:
            content: The decoded file.
            where: Its name, for messages.
            base: The folder that relative paths start from; the working folder where None.

        Raises:
            UserError: an unknown or missing key, a wrong type or value, a file that is not there.
        """
        if not isinstance(content, dict):
            raise UserError(f"{where}: an experiment is a table, got {type(content).__name__}")
        version = content.get("version")
        if version != 1 or isinstance(version, bool):
            given = "has no version" if version is None else f"has version {version!r}"
            raise UserError(f"{where} {given}, this icl_align reads version 1; write version = 1")
        try:
            return Experiment.model_validate(content, context={"base": base or Path()})
        except ValidationError as error:
            raise UserError(f"{where}: {told(error, Experiment)}") from error

    def to_json(self) -> dict[str, Any]:
        """Gives a JSON-able dict, files as absolute paths, that `from_json` reads back."""
        content = self.model_dump(mode="json")
        systems = content["space"]["systems"]
        content["space"]["systems"] = systems["file"] or systems["texts"]
        return content

    def override(
        self,
        *,
        model: str | None = None,
        seed: int | None = None,
        sampler: str | None = None,
        trials: int | None = None,
        generations: int | None = None,
        tokens: int | None = None,
        seconds: float | None = None,
        money: float | None = None,
        batch: int | None = None,
    ) -> Experiment:
        """Gives the experiment with what is not None put in its place.

        A limit replaces the file's limits, all of them.

        Args:
            model: A folder or Hub id.
            seed: The seed.
            sampler: As in `Search`.
            trials: A limit, as in `Search`.
            generations: A limit, as in `Search`.
            tokens: A limit, as in `Search`.
            seconds: A limit, as in `Search`.
            money: A limit, as in `Search`.
            batch: As in `Search`.

        Raises:
            UserError: a value out of range, or no such model folder.
        """
        content = self.to_json()
        limits = {
            "trials": trials,
            "generations": generations,
            "tokens": tokens,
            "seconds": seconds,
            "money": money,
        }
        if any(limit is not None for limit in limits.values()):
            content["search"] |= dict.fromkeys(LIMITS) | limits
        for table, key, value in (
            ("search", "sampler", sampler),
            ("search", "batch", batch),
            ("model", "id", model),
        ):
            if value is not None:
                content[table][key] = value
        if seed is not None:
            content["seed"] = seed
        return Experiment.from_json(content, where="command line")

    def without_calibrations(self) -> Experiment:
        """Gives the experiment with the judges' own scores."""
        content = self.to_json()
        for table in content["objective"].values():
            table["calibration"] = None
        return Experiment.from_json(content)

    @staticmethod
    def for_model(model: str) -> Experiment:
        """Gives an experiment that only says which model to run, in the `hf` engine's usual way."""
        return bundled_experiment(0).override(model=model)


def load_experiment(path: Path | str) -> Experiment:
    """Reads an experiment file.

    Raises:
        UserError: it cannot be read, is no TOML, or is no experiment; names file, table and key.
    """
    place = Path(path)
    text = read_text(place)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        line = f":{found[2]}:{found[3]}" if found else ""
        raise UserError(f"{place}{line}: broken TOML: {found[1] if found else error}") from error
    return Experiment.from_json(content, where=str(place), base=place.resolve().parent)


def bundled_experiment(seed: int = 0) -> Experiment:
    """Gives the quickstart's experiment, on the bundled model; `experiments/bundled.toml` is it."""
    content = {
        "version": 1,
        "name": "bundled",
        "seed": seed,
        "model": {"id": BUNDLED},
        "data": {"dev": BUNDLED, "confirm": BUNDLED, "test": BUNDLED},
        "space": {
            "systems": BUNDLED,
            "pool": BUNDLED,
            "k": [0, 4],
            "formats": list(FORMATS),
            "max_tokens": 96,
        },
        "objective": {"checklist": {"weight": 0.7}, "embedding": {"weight": 0.3}},
        "search": {"generations": 4000, "batch": 8},
        "confirm": {
            "finalists": 6,
            "baselines": {"hand-written": BUNDLED, ZERO_SHOT: ZERO_SHOT},
        },
    }
    return Experiment.from_json(content, where="bundled experiment")
