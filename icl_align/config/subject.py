"""The tables that say what is searched: the model, the data and the space."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from icl_align.config.values import FROM_LIST, FileName, FormatName, ModelName, Part, Table


def _systems(value: object) -> object:
    return {"texts": value} if isinstance(value, list) else {"file": value}


def _bounds(value: object) -> object:
    return [value, value] if isinstance(value, int) else value


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

    id: ModelName
    engine: Part = "hf"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int | None = Field(None, ge=1)
    strategy: Literal["auto", "packed", "repeated", "alone"] = "auto"
    options: dict[str, JsonValue] = Field(default_factory=dict)


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

    texts: Annotated[tuple[str, ...], FROM_LIST] = ()
    file: FileName | None = None


class SpaceTable(Table):
    """What may vary; see `icl_align.space.Space`."""

    systems: Annotated[Systems, BeforeValidator(_systems)]
    pool: FileName
    k: Annotated[tuple[int, int], FROM_LIST, BeforeValidator(_bounds)]
    formats: Annotated[tuple[FormatName, ...], FROM_LIST] = ("block",)
    temperatures: Annotated[tuple[Annotated[float, Field(ge=0)], ...], FROM_LIST] = (0.0,)
    repetition_penalties: Annotated[tuple[Annotated[float, Field(gt=0)], ...], FROM_LIST] = (1.0,)
    max_tokens: int = Field(256, ge=1)
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_scope: Literal["generated", "all"] = "generated"
