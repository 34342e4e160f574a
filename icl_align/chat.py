"""A conversation with a base model through a prompt, kept as URIAL keeps it: turns behind exemplars."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from icl_align.assemble import build_engine
from icl_align.config import Experiment
from icl_align.engines import Engine, Tokenizing
from icl_align.errors import UserError
from icl_align.history import Fitted, HistoryBudget
from icl_align.pack import Pack
from icl_align.prompt import Prompt
from icl_align.types import Example, Finish, Turn

HELP = "/undo takes back the last turn, /reset all of them, /quit ends"
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves a cursor, colours, renames or turns text in a terminal; all but newline and tab."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and what of the conversation the model did not see.

    Attributes:
        query: The query.
        answer: The answer as the model wrote it; `shown` makes it safe to print.
        tokens: Generated tokens.
        finish: Why it ended.
        dropped_turns: Oldest turns that were left out.
        dropped_exemplars: Exemplars that were left out.
    """

    query: str
    answer: str
    tokens: int
    finish: Finish
    dropped_turns: int
    dropped_exemplars: int


class Chat:
    """A conversation; earlier turns are sent again with each query, as far as they fit.

    Attributes:
        turns: The turns so far.
    """

    def __init__(self, prompt: Prompt, engine: Engine, budget: HistoryBudget | None = None) -> None:
        """Stores the prompt, the engine, and what may be left out (None: the usual)."""
        self.prompt, self.engine = prompt, engine
        self.budget = budget or HistoryBudget()
        self.turns: tuple[Turn, ...] = ()

    def ask(self, query: str) -> Reply:
        """Answers a query and keeps the turn.

        Raises:
            UserError: the query does not fit the context, or the engine gave no answer; the
                conversation is as before.
        """
        fitted = self._fitted(Example(query, turns=self.turns))
        response = self.engine.generate(
            [fitted.text], stop=self.prompt.stop, decoding=self.prompt.decoding
        )[0]
        if response.finish == "error":
            raise UserError(f"no answer: {response.error}")
        answer = self.prompt.parse(response.text)
        self.turns = (*self.turns, Turn(query, answer))
        return Reply(
            query,
            answer,
            response.tokens,
            response.finish,
            fitted.dropped_turns,
            fitted.dropped_exemplars,
        )

    def undo(self) -> bool:
        """Takes back the last turn; False where there is none."""
        had = bool(self.turns)
        self.turns = self.turns[:-1]
        return had

    def reset(self) -> None:
        """Starts anew."""
        self.turns = ()

    def _fitted(self, example: Example) -> Fitted:
        if not isinstance(self.engine, Tokenizing):
            return Fitted(self.prompt.render(example), 0, 0)
        room = self.engine.context_length - self.prompt.decoding.max_tokens
        return self.budget.fit(self.prompt, example, self.engine.count_tokens, room)


def start(pack: Pack, model: str | None, budget: HistoryBudget | None = None) -> Chat:
    """Begins a conversation with a pack's prompt and its model, or another one.

    Raises:
        UserError: the pack names no model and none is given.
    """
    name = model or pack.model.get("id")
    if not name:
        raise UserError("this pack names no model; give one with --model FOLDER or a Hub id")
    return Chat(pack.prompt, build_engine(Experiment.for_model(str(name))), budget)


def talk(
    chat: Chat, lines: Iterable[str], say: Callable[[Reply], None], note: Callable[[str], None]
) -> None:
    """Answers lines until they end or one is /quit.

    A line that is one word behind a slash is a command; blank lines are passed over. What is wrong
    with one query is noted, and the conversation goes on.

    Args:
        chat: The conversation.
        lines: What the user writes, a query a line.
        say: Takes each reply.
        note: Takes remarks: what was left out, what a command did.
    """
    for line in lines:
        text = line.strip("\r\n")
        if not text.strip():
            continue
        if re.fullmatch(r"/[a-z]+", text.strip()):
            if text.strip() == "/quit":
                return
            note(_obey(chat, text.strip()))
            continue
        try:
            reply = chat.ask(text)
        except UserError as error:
            note(str(error))
            continue
        if reply.dropped_turns or reply.dropped_exemplars:
            note(_left_out(reply))
        say(reply)


def shown(text: str) -> str:
    """Makes a model's text safe to print: control characters become their escaped form."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _obey(chat: Chat, command: str) -> str:
    if command == "/reset":
        chat.reset()
        return "the conversation starts anew"
    if command == "/undo":
        return "the last turn is taken back" if chat.undo() else "there is no turn to take back"
    return HELP if command == "/help" else f"there is no command {command}; {HELP}"


def _left_out(reply: Reply) -> str:
    parts = [
        f"{count} {what}"
        for count, what in (
            (reply.dropped_turns, "of the oldest turns"),
            (reply.dropped_exemplars, "of the first exemplars"),
        )
        if count
    ]
    return f"the context is full: {' and '.join(parts)} left out"
