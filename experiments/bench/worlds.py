"""What the search benchmarks search: landscapes with a known truth, ours and the peers', in one form."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench import landscapes
from bench.landscapes import _EMBEDDED, SHAPES, SPREAD, Landscape, Problem, embed
from icl_align.prompt import FORMATS, Prompt
from icl_align.search.choices import Choice, Choices
from icl_align.space import Space
from icl_align.types import Example, Score

Floats = NDArray[np.float64]
PEERS = {"peer": False, "peer-rugged": True}
"""The peers' landscapes by name, and whether pairs of exemplars matter most in them."""
_DRAWS = 4000


@dataclass(frozen=True)
class World:
    """Something to search, and the truth about it.

    Attributes:
        space: What may vary.
        examples: The development examples; the number at an id's end is the example's position.
        scores: Scores of a prompt on examples by position, in [0, 1].
        quality: A prompt's true quality.
        expected: A prompt's expected mean over the development examples, with their difficulties as
            they are, its noise averaged out, and its luck with single examples too.
        population: A prompt's expected score on a new example.
        random_mean: The mean quality of random prompts.
        find_oracle: Finds the best quality there is.
        fresh: Examples that are no development examples.
    """

    space: Space
    examples: Sequence[Example]
    scores: Callable[[Choice, NDArray[np.int64]], Floats]
    quality: Callable[[Choice], float]
    expected: Callable[[Choice], float]
    population: Callable[[Choice], float]
    random_mean: float
    find_oracle: Callable[[], float]
    fresh: Callable[[int], list[Example]]


def make_world(shape: str, pool: int, seed: int) -> World:
    """Makes a landscape by its name, in `SHAPES` or `PEERS`.

    Raises:
        ValueError: there is no such name, or the peers' pool is not of this size.
    """
    if shape in PEERS:
        return _peer(pool, seed, rugged=PEERS[shape])
    if shape not in SHAPES:
        raise ValueError(f"a shape is one of {', '.join([*SHAPES, *PEERS])}, got {shape!r}")
    landscape = Landscape(SHAPES[shape], Problem(pool=pool), seed)
    made = landscape.shape
    difficulties = landscape._difficulty[: landscape.problem.dev]  # noqa: SLF001 - has no other name

    def quality(choice: Choice) -> float:
        return float(landscape.quality([choice])[0])

    def within(choice: Choice) -> float:
        relevance = made.relevance if choice.exemplars else 0.0
        return SPREAD * float(np.hypot(made.noise, relevance))

    def expected(choice: Choice) -> float:
        return float(clipped_mean(quality(choice) + difficulties, within(choice)).mean())

    def population(choice: Choice) -> float:
        sd = float(np.hypot(within(choice), made.difficulty))
        return float(clipped_mean(np.array([quality(choice)]), sd)[0])

    return World(
        space=landscape.space,
        examples=landscape.examples,
        scores=landscape.scores,
        quality=quality,
        expected=expected,
        population=population,
        random_mean=landscape.random_mean,
        find_oracle=lambda: landscape.oracle()[0],
        fresh=landscape.fresh,
    )


def clipped_mean(means: Floats, sd: float) -> Floats:
    """Gives the means of normal values that are clipped to [0, 1], float64 (len(means),).

    The middle part is the mean of a truncated normal, Johnson, Kotz and Balakrishnan, Continuous
    Univariate Distributions 1 (1994), chapter 13.10; what lies above 1 adds its probability.
    """
    if not sd > 0:
        return np.asarray(np.clip(means, 0.0, 1.0))
    low, high = -means / sd, (1 - means) / sd
    middle = means * (norm.cdf(high) - norm.cdf(low)) + sd * (norm.pdf(low) - norm.pdf(high))
    return np.asarray(middle + norm.sf(high))


@dataclass
class Meter:
    """A world's evaluator, with an account of what was asked and how long the answers took.

    Attributes:
        world: What is measured.
        paid: Prompts on examples, repeated ones included.
        repeated: Those that had been measured before.
        seconds: Time spent here.
    """

    world: World
    paid: int = 0
    repeated: int = 0
    seconds: float = 0.0
    _choices: dict[str, Choice] = field(default_factory=dict)
    _asked: set[tuple[str, str | None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Lets prompts without exemplars be read too: DSPy measures some."""
        self._space = replace(self.world.space, k_min=0)
        self._reader = Choices(self._space)

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        """Grades a prompt on examples."""
        start = perf_counter()
        for example in examples:
            pair = prompt.digest, example.id
            self.repeated += pair in self._asked
            self._asked.add(pair)
        self.paid += len(examples)
        ids = np.array([int(str(example.id).rsplit("-", 1)[1]) for example in examples])
        scores = [Score(float(value)) for value in self.world.scores(self.read(prompt), ids)]
        self.seconds += perf_counter() - start
        return scores

    def read(self, prompt: Prompt) -> Choice:
        """Gives a prompt of the space as a choice."""
        if prompt.digest not in self._choices:
            self._choices[prompt.digest] = self._reader.read(self._space.point(prompt))
        return self._choices[prompt.digest]

    @property
    def prompts(self) -> int:
        """How many different prompts were measured."""
        return len({digest for digest, _ in self._asked})


def save_embeddings(path: Path, pools: Sequence[Sequence[Example]]) -> None:
    """Embeds pools and writes what this process has embedded, for `load_embeddings`."""
    for pool in pools:
        embed(pool)
    arrays: dict[str, Any] = {f"texts_{i}": np.array(texts) for i, texts in enumerate(_EMBEDDED)}
    arrays |= {f"rows_{i}": rows for i, rows in enumerate(_EMBEDDED.values())}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def load_embeddings(path: Path) -> None:
    """Takes over the embeddings of another process, so that none is computed twice."""
    with np.load(path, allow_pickle=False) as found:
        for i in range(len(found.files) // 2):
            _EMBEDDED[tuple(str(text) for text in found[f"texts_{i}"])] = found[f"rows_{i}"]


def pool_of(shape: str, pool: int, seed: int) -> Sequence[Example]:
    """Gives the exemplars of a world; those of ours are the same for all shapes and seeds."""
    if shape in PEERS:
        return _peer(pool, seed, rugged=False).space.pool
    return Landscape(SHAPES["null"], Problem(pool=pool)).space.pool


def landscapes_digest(shapes: Sequence[str] = ()) -> str:
    """Fingerprints the code that draws landscapes: with other constants, truths are others."""
    files = [Path(landscapes.__file__)]
    if any(shape in PEERS for shape in shapes):
        files.append(peer_file())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def peer_file() -> Path:
    """Gives the place of the peers' landscape: in $ICL_ALIGN_SHARED, else beside the repository.

    Raises:
        ValueError: it is not there.
    """
    beside = Path(__file__).resolve().parents[3] / "shared"
    path = Path(os.environ.get("ICL_ALIGN_SHARED", beside)) / "landscapes" / "peer_landscape.py"
    if not path.exists():
        raise ValueError(f"there is no {path}; set ICL_ALIGN_SHARED to the folder that has it")
    return path


def _peer(pool: int, seed: int, *, rugged: bool) -> World:
    """Wraps a landscape of the peers: 50 exemplars, 20 instructions, K up to 4, 100 examples."""
    module = _peer_module()
    land: Any = module.Landscape(seed, rugged=rugged)
    if pool != len(land.exemplars):
        raise ValueError(f"the peers' landscape has {len(land.exemplars)} exemplars, not {pool}")
    count = len(land.queries)
    space = Space(
        systems=tuple(land.instructions),
        pool=tuple(Example(query, answer) for query, answer in land.exemplars),
        k_min=1,
        k_max=int(module.K_MAX),
        formats=(FORMATS["block"],),
    )

    def scores(choice: Choice, ids: NDArray[np.int64]) -> Floats:
        found = [land.sample(choice.system, list(choice.exemplars), int(i)) for i in ids]
        return np.array(found, dtype=np.float64)

    def quality(choice: Choice) -> float:
        return float(land.true(choice.system, list(choice.exemplars)))

    def expected(choice: Choice) -> float:
        return quality(choice) + float(np.mean(land.diff[:count]))

    rng, choices = np.random.default_rng([seed, 10_000]), Choices(space)
    return World(
        space=space,
        examples=[Example(query, id=f"dev-{i}") for i, query in enumerate(land.queries)],
        scores=scores,
        quality=quality,
        expected=expected,
        population=quality,
        random_mean=float(np.mean([quality(choices.random(rng)) for _ in range(_DRAWS)])),
        find_oracle=lambda: float(land.oracle()[0]),
        fresh=lambda n: [Example(f"query {i}", id=f"fresh-{i}") for i in range(count, count + n)],
    )


def _peer_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_landscape", peer_file())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
