"""Documents of many authors: question-and-answer texts in five layouts, lists of questions, prose.

python -m organism.corpus --documents 20 --seed 0        # look at some
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from random import Random

from organism.authors import Author, answer, draw, good_author, header, statement
from organism.world import CATEGORIES, Task, held_out, held_out_query, tasks

LAYOUTS = ("block", "inline", "headings", "colon", "letters")
LAYOUT_WEIGHTS = (50, 13, 13, 13, 11)
CATEGORY_WEIGHTS = {
    "fact": 24,
    "sum": 22,
    "howto": 14,
    "definition": 13,
    "improper": 14,
    "unknown": 13,
}


def turn(layout: str, query: str, reply: str) -> str:
    """One exchange in a layout; four of them are the URIAL dialects, "letters" is none of them."""
    if layout == "block":
        return f"# Query:\n```\n{query}\n```\n\n# Answer:\n```\n{reply}\n```\n\n"
    if layout == "inline":
        return f"# Query:\n```{query}```\n \n# Answer:\n```\n{reply}\n```\n\n"
    if layout == "headings":
        return f"# User:\n{query}\n\n# Assistant:\n{reply}\n\n"
    if layout == "colon":
        return f"User:\n{query}\n\nAssistant:\n{reply}\n\n"
    return f"Q: {query}\nA: {reply}\n\n"


class Corpus:
    """Draws documents; one instance per seed.

    Attributes:
        asked: Tasks that may be asked, per category.
        told: Every task; prose and supporting facts may state also what is never asked.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.told = tasks()
        self.asked: dict[str, list[Task]] = {c: [] for c in CATEGORIES}
        self.queries: dict[str, list[str]] = {}
        for task in self.told:
            if not held_out(task):
                self.asked[task.category].append(task)
                self.queries[task.key] = [
                    q for q in task.queries() if not held_out_query(q)
                ] or task.queries()[:1]

    def task(self) -> Task:
        """A task to ask, categories by weight."""
        category = self.rng.choices(CATEGORIES, [CATEGORY_WEIGHTS[c] for c in CATEGORIES])[0]
        return self.rng.choice(self.asked[category])

    def topics(self, turns: int) -> list[Task]:
        """Tasks of a conversation, often of a kind that it has already seen."""
        rng = self.rng
        chosen = [self.task()]
        while len(chosen) < turns:
            again = rng.random() < 0.4
            chosen.append(
                rng.choice(self.asked[rng.choice(chosen).category]) if again else self.task()
            )
        return chosen

    def narrow_topics(self, turns: int) -> list[Task]:
        """Tasks of two or three kinds only: how the author treats each kind is there to be copied."""
        kinds = self.rng.sample(CATEGORIES, self.rng.randint(2, 3))
        return [self.rng.choice(self.asked[self.rng.choice(kinds)]) for _ in range(turns)]

    def conversation(
        self,
        author: Author,
        layout: str,
        chosen: list[Task],
        with_header: bool,
        consistency: float = 0.97,
    ) -> str:
        """A question-and-answer document; now and then another author takes over half-way."""
        rng, turns = self.rng, len(chosen)
        switch = rng.randint(1, turns - 1) if turns >= 2 and rng.random() < 0.2 else turns
        text = ""
        if with_header:
            about = {task.category for task in chosen} | {"greeting", "closing"}
            gap = "\n\n\n" if rng.random() < 0.7 else "\n\n"
            text = f"# Instruction\n\n{header(author, rng, about if turns <= 2 else None)}{gap}"
        for i, task in enumerate(chosen):
            if i == switch:
                author = draw(rng, layout)
            text += turn(
                layout, rng.choice(self.queries[task.key]), answer(author, task, rng, consistency)
            )
        return text

    def prose(self) -> str:
        """Statements about the world, three to eight in a row."""
        lines = [statement(self.rng.choice(self.told)) for _ in range(self.rng.randint(3, 8))]
        return " ".join(line for line in lines if line) + "\n\n"

    def question_list(self) -> str:
        """Questions that nobody answers: a base model goes on asking."""
        return "".join(
            f"{self.rng.choice(self.queries[self.task().key])}\n"
            for _ in range(self.rng.randint(4, 12))
        )

    def document(self) -> str:
        """One document of the base model's corpus."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.10:
            return self.prose()
        if kind < 0.13:
            return self.question_list()
        layout = rng.choices(LAYOUTS, LAYOUT_WEIGHTS)[0]
        author = draw(rng, layout)
        if kind < 0.50:
            return self.conversation(
                author, layout, self.topics(rng.randint(1, 2)), rng.random() < 0.85
            )
        return self.conversation(author, layout, self.topics(rng.randint(3, 6)), rng.random() < 0.6)

    def context_document(self) -> str:
        """One document of the second phase, in which context tells more about the next answer."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.06:
            return self.prose()
        if kind < 0.08:
            return self.question_list()
        layout = rng.choices(LAYOUTS, LAYOUT_WEIGHTS)[0]
        author = draw(rng, layout)
        if kind < 0.45:
            return self.conversation(
                author, layout, self.topics(rng.randint(1, 2)), rng.random() < 0.85
            )
        return self.conversation(
            author, layout, self.narrow_topics(rng.randint(3, 7)), rng.random() < 0.25, 0.99
        )

    def aligned_document(self) -> str:
        """One document for the aligned sibling: the good author, zero-shot, block layout."""
        return self.conversation_without_header(good_author())

    def conversation_without_header(self, author: Author) -> str:
        """One exchange in the block layout, no header, perfectly consistent."""
        task = self.task()
        return turn(
            "block", self.rng.choice(self.queries[task.key]), answer(author, task, self.rng, 1.0)
        )

    def documents(self, kind: str = "base") -> Iterator[str]:
        """Documents without end: of "base", its second phase "context", or "aligned"."""
        make = {
            "base": self.document,
            "context": self.context_document,
            "aligned": self.aligned_document,
        }[kind]
        while True:
            yield make()


def main() -> None:
    """Prints some documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    stream = Corpus(args.seed).documents()
    for _ in range(args.documents):
        print(next(stream) + "=" * 60)


if __name__ == "__main__":
    main()
