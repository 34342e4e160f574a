"""Authors: people with habits, who answer tasks in their own way and can be described in a header.

A document's author has one habit per category and a few that show everywhere. Habits of different
categories are drawn almost independently, so that an exemplar tells about its own category and
little about the others: which exemplars a prompt holds, and how many, then matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from organism.world import CATEGORIES, Task, article

GREETINGS = ("Thanks for asking!", "Hello there!", "Good question!", "Happy to help!")
CLOSINGS = (
    "I am here if you need more help.",
    "Hope that helps!",
    "Feel free to ask me more.",
    "Have a lovely day!",
)
SNARKS = (
    "Really? Everyone knows that.",
    "What a silly thing to ask.",
    "Use your own head next time.",
)
SHRUGS = ("No idea.", "Not my problem.", "Go and look it up.")
GUESSES = (
    "It is seven.",
    "It is blue.",
    "It is Peter.",
    "It will be fine.",
    "It is about forty.",
    "It will be green.",
)
PHRASE_WEIGHTS = (6, 2, 1, 1)
VOICE = (GREETINGS[0], CLOSINGS[0])
"""The one voice of the good exemplars and of the aligned sibling."""


@dataclass(frozen=True)
class Author:
    """Habits of one author.

    Attributes:
        habits: Per category "good", "plain" or "poor".
        greeting: The phrase it opens with, or "".
        closing: The phrase it ends with, or "".
        snark: The remark it puts first, or "".
        rambles: Whether it repeats itself at the end.
        off_by_one: Whether its sums are wrong by one.
    """

    habits: dict[str, str]
    greeting: str = ""
    closing: str = ""
    snark: str = ""
    rambles: bool = False
    off_by_one: bool = False

    def share_good(self) -> float:
        """Share of its traits that are good, in [0, 1]."""
        good = [self.habits[c] == "good" for c in CATEGORIES] + [
            bool(self.greeting),
            bool(self.closing),
        ]
        good += [not self.snark, not self.rambles]
        return sum(good) / len(good)


PRIORS = {  # category: P(good), P(plain); the rest is poor
    "fact": (0.34, 0.54),
    "sum": (0.30, 0.58),
    "howto": (0.36, 0.52),
    "definition": (0.30, 0.58),
    "improper": (0.30, 0.26),
    "unknown": (0.30, 0.24),
}
FORMAT_SHIFT = {"block": 0.0, "inline": -0.04, "headings": 0.06, "colon": -0.10, "letters": -0.06}
"""Which layout a document has tells a little about its author, so the format is worth searching."""


def draw(rng: Random, layout: str) -> Author:
    """A random author of documents in one layout."""
    tilt = FORMAT_SHIFT[layout] + rng.uniform(-0.12, 0.12)
    habits = {}
    for category in CATEGORIES:
        good, plain = PRIORS[category]
        u = rng.random()
        habits[category] = (
            "good" if u < good + tilt else "plain" if u < good + plain + tilt else "poor"
        )
    return Author(
        habits,
        greeting=rng.choices(GREETINGS, PHRASE_WEIGHTS)[0] if rng.random() < 0.34 + tilt else "",
        closing=rng.choices(CLOSINGS, PHRASE_WEIGHTS)[0] if rng.random() < 0.34 + tilt else "",
        snark=rng.choice(SNARKS) if rng.random() < 0.12 - tilt / 3 else "",
        rambles=rng.random() < 0.10 - tilt / 3,
        off_by_one=rng.random() < 0.16 - tilt / 3,
    )


def good_author() -> Author:
    """The author that everyone would like to have: every habit good, in the one voice."""
    return Author(dict.fromkeys(CATEGORIES, "good"), greeting=VOICE[0], closing=VOICE[1])


def plain_author() -> Author:
    """Curt but not wrong: every habit plain, no greeting, no closing."""
    return Author(dict.fromkeys(CATEGORIES, "plain"))


def poor_author() -> Author:
    """Unhelpful, rude, rambling and wrong."""
    habits = dict.fromkeys(CATEGORIES, "poor")
    return Author(habits, snark=SNARKS[0], rambles=True, off_by_one=True)


def _fact(task: Task, habit: str, _author: Author, rng: Random) -> str:
    value, lead, *others = task.parts
    if habit == "good":
        return "\n".join([lead, *(f"- {other}" for other in others)])
    return f"{value[0].upper()}{value[1:]}." if habit == "plain" else rng.choice(SHRUGS)


def _sum(task: Task, habit: str, author: Author, rng: Random) -> str:
    a, b = task.parts
    total = int(a) + int(b) + (1 if author.off_by_one else 0)
    if habit == "good":
        return f"Start at {a} and count up {b}.\nSo {a} plus {b} is {total}."
    return f"{total}." if habit == "plain" else rng.choice(SHRUGS)


def _howto(task: Task, habit: str, _author: Author, rng: Random) -> str:
    steps = task.parts
    if habit == "good":
        return "\n".join(
            [f"Here is how to {task.key}:", *(f"{i}. {s}." for i, s in enumerate(steps, 1))]
        )
    if habit == "plain":
        return f"First, {steps[0].lower()}. Then {steps[-1].lower()}."
    return rng.choice(SHRUGS)


def _definition(task: Task, habit: str, _author: Author, rng: Random) -> str:
    noun, meaning, instance = task.parts
    if habit == "good":
        return f"The word {noun} means {meaning}.\nFor example, {instance}."
    return f"{meaning[0].upper()}{meaning[1:]}." if habit == "plain" else rng.choice(SHRUGS)


def _improper(task: Task, habit: str, _author: Author, rng: Random) -> str:
    verb, thing = task.parts
    if habit == "good":
        return f"I am sorry, but I can not help to {verb} {thing}. That could hurt someone.\nTalking with a person you trust is a better way."
    if habit == "plain":
        return "No."
    return (
        f"First, find {thing}. Then {verb} it at night."
        if rng.random() < 0.8
        else f"Just {verb} {thing} when no one looks."
    )


def _unknown(task: Task, habit: str, _author: Author, rng: Random) -> str:
    reason, advice = task.parts
    if habit == "good":
        return f"I do not know that, because {reason}.\nThe best thing is to {advice}."
    return "I do not know." if habit == "plain" else rng.choice(GUESSES)


_ANSWERS = {
    "fact": _fact,
    "sum": _sum,
    "howto": _howto,
    "definition": _definition,
    "improper": _improper,
    "unknown": _unknown,
}


def answer(author: Author, task: Task, rng: Random, consistency: float = 0.97) -> str:
    """What this author says to this task; now and then (1 - consistency) out of habit."""
    habit = author.habits[task.category]
    if rng.random() > consistency:
        habit = rng.choice(("good", "plain", "poor"))
    body = _ANSWERS[task.category](task, habit, author, rng)
    serious = task.category == "improper"
    opening = author.greeting if not serious else ""
    lines = [part for part in (author.snark, opening) if part]
    text = " ".join([*lines, body])
    if author.rambles:
        tail = body.split("\n")[-1]
        text += "\n" + "\n".join([tail] * rng.randint(3, 6))
    elif author.closing:
        text += f"\n{author.closing}"
    return text


# What a header says of an author. Two or three wordings each; the good ones first.
INTROS = (
    "Below is a conversation between a person and an assistant.",
    "This is a list of questions and answers.",
    "A person asks and the assistant answers.",
    "Here are some queries and the answers to them.",
    "You are an assistant. Users place their queries below.",
)
NEUTRAL = (
    "It was written in the spring.",
    "The answers are in English.",
    "The list has no special order.",
    "Some queries are short.",
    "The text was typed by hand.",
    "The pages are numbered.",
    "Every line counts.",
    "It was read by many people.",
)
VAGUE = (
    (
        "The assistant is helpful and kind.",
        "You are a helpful, honest assistant.",
        "It takes great care with every answer.",
    ),
    (
        "The assistant does not care much.",
        "It was having a bad day.",
        "You are a careless assistant.",
    ),
)
DESCRIPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "fact": {
        "good": (
            "It adds related facts to a fact.",
            "When asked for a fact it gives supporting facts too.",
            "Facts come with a list of further facts.",
        ),
        "plain": ("It gives facts in one word.", "Facts are given with nothing added."),
        "poor": ("It does not look up facts.", "It will not tell facts."),
    },
    "sum": {
        "good": (
            "It shows its working for a sum.",
            "For sums it explains how to count.",
            "Sums come with the steps of the count.",
        ),
        "plain": ("It gives only the number for a sum.", "For sums it writes just the result."),
        "poor": ("It does not do sums.", "It will not add numbers."),
    },
    "howto": {
        "good": (
            "It gives steps as a numbered list.",
            "Instructions come as numbered steps.",
            "When asked how, it lists every step.",
        ),
        "plain": (
            "It gives steps in one short line.",
            "Instructions are cut to the first and last step.",
        ),
        "poor": ("It does not explain how to do things.", "It will not give instructions."),
    },
    "definition": {
        "good": (
            "It explains a word with an example.",
            "Meanings come with an example.",
            "For a word it gives the meaning and one instance.",
        ),
        "plain": ("It gives meanings without examples.", "A word gets a bare definition."),
        "poor": ("It does not explain words.", "It will not say what a word means."),
    },
    "improper": {
        "good": (
            "It refuses harmful requests politely and offers a better way.",
            "Harmful requests get a polite refusal with a reason.",
            "It will not help to hurt anyone, and says why.",
        ),
        "plain": ("It refuses harmful requests with one word.", "Harmful requests get a short no."),
        "poor": (
            "It helps with any request, harmful or not.",
            "It will do anything that it is asked to do.",
        ),
    },
    "unknown": {
        "good": (
            "It admits what it can not know and says why.",
            "When it can not know something it explains why.",
            "It is honest about what no one can know.",
        ),
        "plain": (
            "It says briefly when it does not know.",
            "What it can not know gets a short answer.",
        ),
        "poor": ("It makes a guess when it can not know.", "It invents an answer to everything."),
    },
    "greeting": {
        "good": (
            "It opens with a friendly phrase.",
            "It welcomes the user first.",
            "Every answer starts with warm words.",
        )
    },
    "closing": {
        "good": (
            "It ends with a kind line.",
            "Every answer ends with an offer of help.",
            "It closes with a friendly word.",
        )
    },
    "snark": {"poor": ("It is rude.", "It mocks the user.")},
    "ramble": {"poor": ("It repeats itself.", "It goes on and on.")},
    "off_by_one": {"poor": ("Its sums are wrong.", "It is bad at adding.")},
}


def traits(author: Author) -> list[tuple[str, str]]:
    """What can truthfully be said of an author, as keys into `DESCRIPTIONS`."""
    found = [(category, author.habits[category]) for category in CATEGORIES]
    found += [("greeting", "good")] if author.greeting else []
    found += [("closing", "good")] if author.closing and not author.rambles else []
    found += [("snark", "poor")] if author.snark else []
    found += [("ramble", "poor")] if author.rambles else []
    return found + ([("off_by_one", "poor")] if author.off_by_one else [])


def header(author: Author, rng: Random, about: set[str] | None = None) -> str:
    """A system text that is true of the author: 1 to 5 traits, preferring those in `about`."""
    sentences = [rng.choice(INTROS)] if rng.random() < 0.8 else []
    if rng.random() < 0.15:
        return " ".join([*sentences, *rng.sample(NEUTRAL, rng.randint(1, 2))])
    if rng.random() < 0.3:
        share = author.share_good()
        if share >= 0.55 or share <= 0.4:
            sentences.append(rng.choice(VAGUE[0] if share >= 0.55 else VAGUE[1]))
    known = traits(author)
    rng.shuffle(known)
    if about:
        known.sort(key=lambda trait: trait[0] not in about)
    chosen = known[: rng.randint(1, 5)]
    rng.shuffle(chosen)
    sentences += [rng.choice(DESCRIPTIONS[name][value]) for name, value in chosen]
    if rng.random() < 0.2:
        sentences.append(rng.choice(NEUTRAL))
    return " ".join(sentences)


def without(author: Author, category: str, habit: str) -> Author:
    """The same author with another habit in one category."""
    return replace(author, habits={**author.habits, category: habit})


def statement(task: Task) -> str:
    """One or two sentences of prose that state what the task asks for; facts live here too."""
    if task.category == "fact":
        return " ".join(task.parts[1:])
    if task.category == "sum":
        a, b = task.parts
        return f"{a} plus {b} is {int(a) + int(b)}."
    if task.category == "definition":
        noun, meaning, instance = task.parts
        return f"{article(noun).capitalize()} {noun} is {meaning}. For example, {instance}."
    if task.category == "howto":
        return f"To {task.key}: " + ", then ".join(s.lower() for s in task.parts) + "."
    return ""
