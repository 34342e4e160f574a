"""The experiment file: TOML, read as one validated record; mistakes name file, table and key."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from icl_align.data import read_text
from icl_align.errors import UserError
from icl_align.prompt import FORMATS

LIMITS = ("trials", "generations", "tokens", "seconds", "money")
"""The kinds of budget; a sweep ends at the first that is reached."""
USUAL_GENERATIONS = 2000
"""The budget of a sweep that gives none."""
BUNDLED = "bundled"
"""In place of a file: the one that comes with the bundled model."""
ZERO_SHOT = "zero-shot"
"""In place of a baseline's file: no system text, no exemplars."""


def _file(value: str, info: ValidationInfo) -> str:
    """Resolves a file against the folder of the experiment file."""
    if value == BUNDLED:
        return value
    place = Path(_base(info), Path(value).expanduser())
    if not place.is_file():
        raise ValueError(f"there is no file {place}")
    return str(place.resolve())


def _baseline(value: str, info: ValidationInfo) -> str:
    return value if value == ZERO_SHOT else _file(value, info)


def _model_id(value: str, info: ValidationInfo) -> str:
    """Makes a folder absolute; everything else is a Hub id."""
    place = Path(_base(info), Path(value).expanduser())
    if value != BUNDLED and place.is_dir():
        return str(place.resolve())
    if not value or Path(value).is_absolute() or value.startswith((".", "~")):
        raise ValueError(f"there is no folder {place}")
    return value


def _part(value: str, info: ValidationInfo) -> str:
    """Makes the file in `file.py:attr` absolute."""
    place, colon, attribute = value.rpartition(":")
    if colon and place.endswith(".py"):
        return f"{_file(place, info)}:{attribute}"
    return value


def _systems(value: object) -> object:
    return {"texts": value} if isinstance(value, list) else {"file": value}


def _bounds(value: object) -> object:
    return [value, value] if isinstance(value, int) else value


def _format(value: str) -> str:
    if value not in FORMATS:
        near = get_close_matches(value, FORMATS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(FORMATS)}"
        raise ValueError(f"there is no format {value!r}; {hint}")
    return value


def _base(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("base", "."))


FileName = Annotated[str, AfterValidator(_file)]
FormatName = Annotated[str, AfterValidator(_format)]
Part = Annotated[str, AfterValidator(_part)]
_FROM_LIST = Field(strict=False)
"""For a tuple that is a list in the file; its items stay strict."""


class Table(BaseModel):
    """What all tables of an experiment file share: exact types, no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Model(Table):
    """The base model, and what runs it.

    Attributes:
        id: "bundled", a folder, or a Hub id.
        engine: "hf", "openai", "vllm", or an engine of one's own as `module:attr` or
            `file.py:attr`; all but "hf" are called with the id and the options.
        device: For "hf": "auto", "cpu", "cuda", "cuda:1", ...
        dtype: For "hf": "auto", "float32", "bfloat16" or "float16".
        batch_size: For "hf": most prompts decoded at once; by default 64 on a CPU, 256 with CUDA.
        strategy: For "hf": how prompts share their beginnings: "auto" or, by name, "packed",
            "repeated" or "alone" (`icl_align.engines.hf.HFEngine`).
        options: Settings of another engine.
    """

    id: Annotated[str, AfterValidator(_model_id)]
    engine: Part = "hf"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int | None = Field(None, ge=1)
    strategy: Literal["auto", "packed", "repeated", "alone"] = "auto"
    options: dict[str, JsonValue] = {}


class Hub(Table):
    """A Hugging Face data set: a Hub id, a local file or a saved folder."""

    name: str
    split: str = "train"
    config: str | None = None
    query_column: str = "query"
    answer_column: str | None = None
    limit: int | None = Field(None, ge=1)


class Sizes(Table):
    """How many examples each split has; with files of their own, at most how many are used."""

    dev: int | None = Field(None, ge=1)
    confirm: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)


class Data(Table):
    """Where the instructions come from: a file per split, one source to be split, or a data set."""

    dev: FileName | None = None
    confirm: FileName | None = None
    test: FileName | None = None
    source: FileName | None = None
    hub: Hub | None = None
    sizes: Sizes = Sizes()

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [name for name in ("dev", "source", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of dev (a file per split), source and hub, got {given or 'none'}"
            )
        if given == ["dev"]:
            if self.confirm is None and self.test is None:
                raise ValueError(
                    "a winner is proved on untouched examples: give confirm or test as well"
                )
        elif self.confirm is not None or self.test is not None:
            raise ValueError(
                f"confirm and test are cut from {given[0]} by [data.sizes]; leave them out"
            )
        elif self.sizes.dev is None or (self.sizes.confirm is None and self.sizes.test is None):
            raise ValueError(f"to split {given[0]}, [data.sizes] needs dev, and confirm or test")
        return self


class Systems(Table):
    """System texts, written out or in a JSON file (a list of texts, or of objects with "text")."""

    texts: Annotated[tuple[str, ...], _FROM_LIST] = ()
    file: FileName | None = None


class SpaceTable(Table):
    """What may vary; see `icl_align.space.Space`."""

    systems: Annotated[Systems, BeforeValidator(_systems)]
    pool: FileName
    k: Annotated[tuple[int, int], _FROM_LIST, BeforeValidator(_bounds)]
    formats: Annotated[tuple[FormatName, ...], _FROM_LIST] = ("block",)
    temperatures: Annotated[tuple[Annotated[float, Field(ge=0)], ...], _FROM_LIST] = (0.0,)
    repetition_penalties: Annotated[tuple[Annotated[float, Field(gt=0)], ...], _FROM_LIST] = (1.0,)
    max_tokens: int = Field(256, ge=1)
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_scope: Literal["generated", "all"] = "generated"


class TermTable(Table):
    """One term of the objective.

    Attributes:
        weight: Its share.
        scorer: A built-in scorer ("embedding", "judge", ...; docs/judges.md), or one's own as `module:attr`
            or `file.py:attr`; the table's name where it is left out.
        options: What the scorer is made with.
        calibration: A file of `icl-align judge calibrate`, which puts the scores on a common scale.
    """

    weight: float = Field(gt=0)
    scorer: Part = ""
    options: dict[str, JsonValue] = {}
    calibration: FileName | None = None


class PriceTable(Table):
    """What a million tokens cost, in any currency.

    Attributes:
        prompt: Prompt tokens that have to be computed.
        reused: Prompt tokens that a prefix cache gives.
        generated: Generated tokens.
    """

    prompt: float = Field(0.0, ge=0)
    reused: float = Field(0.0, ge=0)
    generated: float = Field(0.0, ge=0)


class Constraint(Table):
    """What a prompt must reach besides the objective.

    Attributes:
        aspect: A term of the objective, or `term.aspect`.
        at_least: The least mean over the examples that have the aspect.
    """

    aspect: str
    at_least: float


class Search(Table):
    """How the space is searched, and what that may cost; it ends at the first limit that is reached.

    Attributes:
        sampler: A name, or a factory of one's own as `module:attr` or `file.py:attr`.
        trials: Trials in all.
        generations: Prompts measured on examples, each pair counted once.
        tokens: Generated tokens.
        seconds: Time spent measuring.
        money: By the prices.
        price: What tokens cost.
        batch: Trials proposed and measured together.
        embedder: Model for the exemplars' embeddings; by default that of the embedding scorer; "none"
            for none.
        objectives: "quality" alone, or with "tokens": then prompts of all lengths are tried.
        constraint: An aspect that must reach a level.
    """

    sampler: Part = "structured"
    trials: int | None = Field(None, ge=1)
    generations: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    money: float | None = Field(None, gt=0)
    price: PriceTable = PriceTable()
    batch: int = Field(4, ge=1)
    embedder: Annotated[str, AfterValidator(_model_id)] | None = None
    objectives: Annotated[tuple[Literal["quality", "tokens"], ...], _FROM_LIST] = ("quality",)
    constraint: Constraint | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_a_limit(cls, content: Any) -> Any:
        """Writes down the usual budget where none is given."""
        if isinstance(content, dict) and all(content.get(name) is None for name in LIMITS):
            return {**content, "generations": USUAL_GENERATIONS}
        return content

    @model_validator(mode="after")
    def _money_has_prices(self) -> Self:
        if self.money is not None and self.price == PriceTable():
            raise ValueError("a limit on money needs [search.price]: what a million tokens cost")
        if "quality" not in self.objectives:
            raise ValueError('objectives must have "quality"')
        return self


class Confirm(Table):
    """How the winner is proved.

    Attributes:
        finalists: How many of the best prompts are measured again before one is chosen.
        level: Coverage of the intervals.
        baselines: Prompts to compare with: a URIAL text or pack, "bundled", or "zero-shot".
        main: The baseline of the headline; the first where it is left out.
        random_search: Compare with the winner of a random search at the same number of generations.
    """

    finalists: int = Field(4, ge=1)
    random_search: bool = False
    level: float = Field(0.95, gt=0, lt=1)
    baselines: dict[str, Annotated[str, AfterValidator(_baseline)]] = Field(
        {ZERO_SHOT: ZERO_SHOT}, min_length=1
    )
    main: str = ""

    @model_validator(mode="before")
    @classmethod
    def _name_main(cls, content: Any) -> Any:
        """Writes down which baseline is the first: the order of a table is easily lost."""
        if isinstance(content, dict) and isinstance(content.get("baselines"), dict):
            first = next(iter(content["baselines"]), "")
            return {**content, "main": content.get("main") or first}
        return content

    @model_validator(mode="after")
    def _main_is_there(self) -> Self:
        if self.main and self.main not in self.baselines:
            raise ValueError(f"main is {self.main!r}, which is none of {', '.join(self.baselines)}")
        return self


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
            raise UserError(f"{where}: {_told(error)}") from error

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
        **search: str | float | None,
    ) -> Experiment:
        """Gives the experiment with what is not None put in its place.

        A limit replaces the file's limits, all of them.

        Args:
            model: A folder or Hub id.
            seed: The seed.
            **search: Keys of [search].

        Raises:
            UserError: a value out of range, or no such model folder.
        """
        content = self.to_json()
        given = {name: value for name, value in search.items() if value is not None}
        if any(name in LIMITS for name in given):
            content["search"] |= dict.fromkeys(LIMITS)
        content["search"] |= given
        if model is not None:
            content["model"]["id"] = model
        if seed is not None:
            content["seed"] = seed
        return Experiment.from_json(content, where="command line")

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


def _told(error: ValidationError) -> str:
    """Tells the first mistake in a line, and how many more there are."""
    mistakes = error.errors(include_url=False)
    # A misspelt key also shows as a missing one: the misspelling is the better news.
    first = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    loc = [str(part) for part in first["loc"] if part not in ("texts", "file")]
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        near = get_close_matches(loc[-1], known, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        message = f"{_table(loc[:-1])} has an unknown key {loc[-1]!r}; {hint}"
    elif first["type"] == "missing":
        message = f"{_table(loc[:-1])} lacks the key {loc[-1]!r}"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason[0].lower() + reason[1:]
        given = first["input"]
        shown = "" if isinstance(given, dict | list) else f", got {given!r}"
        message = f"{'.'.join(loc)}: {reason}{shown}"
    more = len(mistakes) - 1
    return message + (f" (and {more} more mistake{'s' if more > 1 else ''})" if more else "")


def _table(loc: list[str]) -> str:
    return f"[{'.'.join(loc)}]" if loc else "the top of the file"


def _known_keys(loc: list[str]) -> list[str]:
    """The keys of the table at a place in the file."""
    if loc[:1] == ["objective"] and len(loc) > 1:
        return list(TermTable.model_fields)
    table: type[BaseModel] = Experiment
    for part in loc:
        annotation = table.model_fields[part].annotation
        options = (annotation, *get_args(annotation))
        table = next(a for a in options if isinstance(a, type) and issubclass(a, BaseModel))
    return list(table.model_fields)
