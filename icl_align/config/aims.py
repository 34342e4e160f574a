"""The tables that say what is wanted: the objective, the search with its budget, and the proof."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from icl_align.config.values import (
    FROM_LIST,
    ZERO_SHOT,
    BaselineName,
    FileName,
    ModelName,
    Part,
    Table,
)

LIMITS = ("trials", "generations", "tokens", "seconds", "money")
"""The kinds of budget; a sweep ends at the first that is reached."""
USUAL_GENERATIONS = 2000
"""The budget of a sweep that gives none."""


class TermTable(Table):
    """One term of the objective.

    Attributes:
        weight: Its share.
        scorer: A built-in scorer ("embedding", "judge", ...; docs/judges.md), or one's own as `module:attr`
            or `file.py:attr`; the table's name where it is left out.
        options: What the scorer is made with.
        calibration: A file of `icl-align judge calibrate`, which puts the scores on a common scale.
        passport: A `passport.json` of `icl-align judge validate`: how far the judge can be trusted.
    """

    weight: float = Field(gt=0)
    scorer: Part = ""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    calibration: FileName | None = None
    passport: FileName | None = None


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
    embedder: ModelName | None = None
    objectives: Annotated[tuple[Literal["quality", "tokens"], ...], FROM_LIST] = ("quality",)
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
    baselines: dict[str, BaselineName] = Field({ZERO_SHOT: ZERO_SHOT}, min_length=1)
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
        taken = next((name for name in ("winner", "random search") if name in self.baselines), "")
        if taken:
            raise ValueError(f"a baseline cannot be called {taken!r}, which means another prompt")
        if self.main and self.main not in self.baselines:
            raise ValueError(f"main is {self.main!r}, which is none of {', '.join(self.baselines)}")
        return self
