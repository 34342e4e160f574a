"""Synthetic landscapes: a known quality for every prompt of a space, and noisy scores drawn around it.

A landscape is an `icl_align.evaluate.Evaluator`. What a search returns can be judged by its true quality,
which the scores of no finite set of examples give away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from icl_align.models import bundled
from icl_align.prompt import FORMATS, Prompt
from icl_align.search.choices import Choice, Choices
from icl_align.space import Space
from icl_align.types import Example, Score

Floats = NDArray[np.float64]
SPREAD = 0.04
"""Standard deviation of the true quality over random prompts."""
_FILES = ("pool.jsonl", "test.jsonl", "confirm.jsonl", "dev.jsonl")


@dataclass(frozen=True)
class Shape:
    """What a landscape is made of; parts are shares of the variance between random prompts.

    Attributes:
        single: Effects of single exemplars.
        pair: Effects of pairs of exemplars, independent of their texts.
        alike: A loss for exemplars that are alike.
        cross: Effects of an exemplar under a system text.
        system: Effects of system texts.
        format: Effects of formats.
        count: A gain with K that flattens, different in height from seed to seed.
        decoding: Effects of temperature and repetition penalty.
        last: Effects of the last exemplar.
        own: What belongs to one prompt alone and cannot be learnt from others.
        meaning: Share of an exemplar's effect that follows its text's embedding, in [0, 1].
        noise: Standard deviation of one score, in units of the spread between prompts.
        difficulty: Standard deviation between examples, in score units.
        relevance: Effect of an exemplar on a single example, in units of the spread.
    """

    single: float = 0.5
    pair: float = 0.06
    alike: float = 0.04
    cross: float = 0.06
    system: float = 0.12
    format: float = 0.06
    count: float = 0.06
    decoding: float = 0.04
    last: float = 0.03
    own: float = 0.03
    meaning: float = 0.5
    noise: float = 3.0
    difficulty: float = 0.12
    relevance: float = 0.5


SHAPES = {
    "additive": Shape(pair=0, alike=0, cross=0, last=0, own=0, noise=2.4),
    "mixed": Shape(
        single=0.3, system=0.15, format=0.12, decoding=0.12, count=0.08, own=0.05, noise=4.0
    ),
    "rugged": Shape(single=0.2, pair=0.45, alike=0.05, cross=0.05, noise=2.4),
    "interaction": Shape(single=0.25, cross=0.35, pair=0.1, noise=3.0),
    "heterogeneous": Shape(relevance=3.0, noise=3.0, difficulty=0.18),
    "noisy": Shape(noise=5.0),
    "blind": Shape(meaning=0.0, noise=4.0),
    "null": Shape(
        single=0,
        pair=0,
        alike=0,
        cross=0,
        system=0,
        format=0,
        count=0,
        decoding=0,
        last=0,
        own=0,
        meaning=0,
        relevance=0,
    ),
}
"""The landscapes by name; in "blind" the texts say nothing, in "null" all prompts are equal."""


@dataclass(frozen=True)
class Problem:
    """The size of a landscape.

    Attributes:
        pool: Exemplars.
        systems: System texts.
        k_max: Most exemplars in a prompt.
        dev: Development examples.
        decoding: Whether temperatures and repetition penalties vary too.
    """

    pool: int = 50
    systems: int = 20
    k_max: int = 4
    dev: int = 100
    decoding: bool = True


@dataclass
class Landscape:
    """A landscape of a shape, a size and a seed.

    Attributes:
        shape: What it is made of.
        problem: Its size.
        seed: Seed of all its effects.
        calls: How many scores it has given.
    """

    shape: Shape
    problem: Problem = field(default_factory=Problem)
    seed: int = 0
    texts: tuple[Example, ...] | None = None
    calls: int = 0

    def __post_init__(self) -> None:
        """Draws the effects, and scales each part by its own variance over random prompts."""
        self.space = self._make_space()
        self.choices = Choices(self.space)
        self._rng = np.random.default_rng([self.seed, 77])
        self._draw()
        self._scales = dict.fromkeys(self._parts, 1.0)
        sample = [self.choices.random(self._rng) for _ in range(2000)]
        for name in self._parts:
            spread = float(self._part(name, sample).std())
            share = getattr(self.shape, name)
            self._scales[name] = SPREAD * share**0.5 / spread if spread > 1e-12 else 0.0
        qualities = self.quality(sample)
        self.random_mean = float(qualities.mean())
        self.random_sd = float(qualities.std())

    def __call__(self, prompt: Prompt, examples: Sequence[Example]) -> list[Score]:
        """Grades a prompt on examples, as an evaluator does; the same pair always gets the same score."""
        self.calls += len(examples)
        choice = self.choices.read(self.space.point(prompt))
        ids = np.array([int(example.id.rsplit("-", 1)[1]) for example in examples])
        return [Score(float(value)) for value in self.scores(choice, ids)]

    def scores(self, choice: Choice, ids: NDArray[np.int64]) -> Floats:
        """Draws the scores of a prompt on examples by position, in [0, 1]."""
        digest = hashlib.blake2b(repr((self.seed, choice)).encode(), digest_size=8).digest()
        noise = np.random.default_rng(int.from_bytes(digest, "big")).normal(
            size=len(self._difficulty)
        )
        values = self.quality([choice])[0] + self._difficulty[ids]
        values = values + SPREAD * self.shape.noise * noise[ids]
        if choice.exemplars:
            relevance = self._relevance[ids][:, list(choice.exemplars)]
            values = values + relevance.sum(1) / len(choice.exemplars) ** 0.5
        return np.asarray(np.clip(values, 0.0, 1.0))

    def quality(self, choices: Sequence[Choice]) -> Floats:
        """Gives the true quality of prompts, float64 (len(choices),)."""
        total = np.full(len(choices), 0.5)
        for name in self._parts:
            if self._scales[name]:
                total += self._scales[name] * self._part(name, choices)
        return total

    def oracle(self, starts: int = 24) -> tuple[float, Choice]:
        """Finds the best prompt by a search without noise: every single edit, from many starts."""
        rng = np.random.default_rng([self.seed, 5])
        best: tuple[float, Choice] | None = None
        sample = [self.choices.random(rng) for _ in range(4000)]
        order = np.argsort(-self.quality(sample))[:starts]
        for start in order:
            choice = sample[start]
            value = float(self.quality([choice])[0])
            while True:
                edits = self._edits(choice)
                qualities = self.quality(edits)
                top = int(qualities.argmax())
                if qualities[top] <= value + 1e-12:
                    break
                choice, value = edits[top], float(qualities[top])
            if best is None or value > best[0]:
                best = (value, choice)
        assert best is not None
        return best

    def closed(self, choice: Choice, oracle: float) -> float:
        """Gives the share of the way from a random prompt to the best one."""
        return float((self.quality([choice])[0] - self.random_mean) / (oracle - self.random_mean))

    @property
    def examples(self) -> list[Example]:
        """The development examples."""
        return [Example(f"query {i}", id=f"dev-{i}") for i in range(self.problem.dev)]

    def fresh(self, count: int) -> list[Example]:
        """Examples that are no development examples."""
        first = self.problem.dev
        return [Example(f"query {i}", id=f"fresh-{i}") for i in range(first, first + count)]

    _parts = (
        "single",
        "pair",
        "alike",
        "cross",
        "system",
        "format",
        "count",
        "decoding",
        "last",
        "own",
    )

    def _make_space(self) -> Space:
        size = self.problem
        texts = self.texts if self.texts is not None else _texts(size.pool)
        return Space(
            systems=tuple(f"You are system text number {i}." for i in range(size.systems)),
            pool=tuple(replace(text, id=f"ex-{i}") for i, text in enumerate(texts[: size.pool])),
            k_min=1,
            k_max=size.k_max,
            formats=tuple(FORMATS[name] for name in ("block", "inline", "headings", "colon")),
            temperatures=(0.0, 0.3, 0.7, 1.0) if size.decoding else (0.0,),
            repetition_penalties=(1.0, 1.1, 1.2) if size.decoding else (1.0,),
        )

    def _draw(self) -> None:
        rng, size = self._rng, self.problem
        n, many = size.pool, 4000
        embeddings = embed(self.space.pool)
        latent = embeddings @ rng.normal(size=(embeddings.shape[1], 8))
        latent = np.tanh(latent / latent.std(0))
        self._like = np.clip(embeddings @ embeddings.T - 0.3, 0, None)
        np.fill_diagonal(self._like, 0)

        def effects(columns: int) -> Floats:
            meant = latent @ rng.normal(size=(latent.shape[1], columns))
            meant = (meant - meant.mean(0)) / (meant.std(0) + 1e-9)
            share = self.shape.meaning
            own = rng.normal(size=(n, columns))
            return np.asarray(share**0.5 * meant + (1 - share) ** 0.5 * own)

        self._single, self._last = effects(1)[:, 0], effects(1)[:, 0]
        self._cross = effects(size.systems)
        pair = rng.normal(size=(n, n))
        self._pair = (pair + pair.T) / 2
        np.fill_diagonal(self._pair, 0)
        self._system = rng.normal(size=size.systems)
        self._format = rng.normal(size=4)
        height = rng.uniform(0.6, 1.4)
        self._count = height * (1 - np.exp(-np.arange(size.k_max + 1) / 1.5))
        best_t, best_p = rng.uniform(0, 0.7), rng.uniform(1.0, 1.2)
        t = np.asarray(self.space.temperatures)
        p = np.asarray(self.space.repetition_penalties)
        self._temperature = -((t - best_t) ** 2) / 0.25
        self._penalty = -((p - best_p) ** 2) / 0.02
        self._difficulty = rng.normal(0, self.shape.difficulty, many)
        self._relevance = SPREAD * self.shape.relevance * rng.normal(size=(many, n))

    def _part(self, name: str, choices: Sequence[Choice]) -> Floats:
        out: Floats = np.zeros(len(choices))
        if name == "own":
            for i, choice in enumerate(choices):
                text = repr((self.seed, choice.exemplars, choice.system, choice.format)).encode()
                number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
                out[i] = np.random.default_rng(number).normal()
            return out
        system = np.array([choice.system for choice in choices])
        if name == "system":
            return np.asarray(self._system[system])
        if name == "format":
            return self._format[[choice.format for choice in choices]]
        if name == "count":
            return self._count[[len(choice.exemplars) for choice in choices]]
        if name == "decoding":
            temperature = self._temperature[[choice.temperature for choice in choices]]
            return np.asarray(temperature + self._penalty[[choice.penalty for choice in choices]])
        lengths = np.array([len(choice.exemplars) for choice in choices])
        for k in range(1, self.problem.k_max + 1):
            which = np.flatnonzero(lengths == k)
            if not len(which):
                continue
            ids = np.array([choices[int(i)].exemplars for i in which])
            if name == "single":  # the later an exemplar, the more it counts
                out[which] = (self._single[ids] * np.linspace(0.85, 1.15, k)).sum(1)
            elif name == "last":
                out[which] = self._last[ids[:, -1]]
            elif name == "cross":
                out[which] = self._cross[ids, system[which][:, None]].sum(1)
            else:
                table = self._pair if name == "pair" else -self._like
                out[which] = sum(
                    table[ids[:, a], ids[:, b]] for a in range(k) for b in range(a)
                ) + np.zeros(len(which))
        return out

    def _edits(self, choice: Choice) -> list[Choice]:
        """Every prompt one edit away."""
        size, ids = self.problem, choice.exemplars
        new = [index for index in range(size.pool) if index not in ids]
        found = [replace(choice, system=i) for i in range(size.systems)]
        found += [replace(choice, format=i) for i in range(4)]
        found += [replace(choice, temperature=i) for i in range(len(self.space.temperatures))]
        found += [replace(choice, penalty=i) for i in range(len(self.space.repetition_penalties))]
        lists = [(*ids[:p], e, *ids[p + 1 :]) for p in range(len(ids)) for e in new]
        if len(ids) < size.k_max:
            lists += [(*ids[:p], e, *ids[p:]) for p in range(len(ids) + 1) for e in new]
        if len(ids) > 1:
            lists += [ids[:p] + ids[p + 1 :] for p in range(len(ids))]
        for a in range(len(ids)):
            for b in range(a):
                swapped = list(ids)
                swapped[a], swapped[b] = swapped[b], swapped[a]
                lists.append(tuple(swapped))
        return found + [replace(choice, exemplars=exemplars) for exemplars in lists]


_EMBEDDED: dict[tuple[str, ...], Floats] = {}


def embed(pool: Sequence[Example]) -> Floats:
    """Gives MiniLM's unit embeddings of exemplars (query and answer), float64 (len(pool), 384)."""
    from icl_align.search.meaning import embed_exemplars

    key = tuple(f"{item.query}\n{item.answer}" for item in pool)
    if key not in _EMBEDDED:
        _EMBEDDED[key] = embed_exemplars(pool)
    return _EMBEDDED[key]


def _texts(count: int) -> tuple[Example, ...]:
    """Reads real texts with answers: those of the bundled model's pool, then of its splits."""
    folder = bundled("base").parent
    found: dict[str, Example] = {}
    for name in _FILES:
        for line in (folder / name).read_text("utf-8").splitlines():
            item = json.loads(line)
            if item.get("answer"):
                found.setdefault(item["query"], Example(item["query"], item["answer"]))
    if len(found) < count:
        raise ValueError(f"there are {len(found)} texts, {count} are wanted")
    return tuple(found.values())[:count]
