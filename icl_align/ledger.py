"""Every response and score ever paid for, content-addressed, in the run's database.

Four tables stand beside the Optuna study: responses, scores, judges' notes, and a schema version. Each `put` is
one transaction, so a killed process loses at most what it had not handed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from icl_align.errors import UserError
from icl_align.types import Decoding, Example, Response, Score

SCHEMA_VERSION = 1
BUSY_SECONDS = 60
"""How long a writer waits for another one before the database counts as locked."""
_KEYS_PER_QUERY = 500

_METADATA = sa.MetaData()
_META = sa.Table(
    "icl_align_meta",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
# Bodies are JSON written in ASCII: PostgreSQL's text cannot hold the NUL a base model may well
# emit.
_RESPONSES = sa.Table(
    "icl_align_responses",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
_SCORES = sa.Table(
    "icl_align_scores",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)

_NOTES = sa.Table(
    "icl_align_notes",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)


def sqlite_url(path: Path | str) -> str:
    """Gives the URL of an SQLite file, with the characters escaped that would break a URL."""
    url = sa.URL.create("sqlite", database=str(path))
    return url.render_as_string(hide_password=False)


def content_digest(content: Any) -> str:
    """Gives the sha256 (hex) of a JSON-able value; equal values give equal digests."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def example_digest(example: Example) -> str:
    """Gives the sha256 (hex) of everything an example holds."""
    return content_digest(asdict(example))


def response_key(fingerprint: str, prompt: str, stop: Iterable[str], decoding: Decoding) -> str:
    """Gives the key of a response: all that can change its text.

    Greedy decoding ignores the seed and the nucleus, so they do not enter its key.
    """
    if decoding.temperature == 0:
        decoding = replace(decoding, seed=None, top_p=1.0)
    return content_digest([fingerprint, prompt, list(stop), asdict(decoding)])


def score_key(fingerprint: str, example: Example, response: Response) -> str:
    """Gives the key of a score: the scorer, the example, and what the scorer sees of a response."""
    seen = [response.text, response.finish, response.tokens]
    return content_digest([fingerprint, example_digest(example), seen])


class Ledger:
    """Remembers responses and scores by content, so that nothing is paid for twice.

    Errors and missing verdicts are never remembered, so they are retried.
    """

    def __init__(self, url: str) -> None:
        """Opens the ledger, creating its tables in a new database.

        Args:
            url: An SQLAlchemy URL; `sqlite_url(path)` or `postgresql://...`.

        Raises:
            UserError: the database cannot be used, or was written by another version.
        """
        self.url = url
        self._engine = _connect(url)
        upserts: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
        if self._engine.dialect.name not in upserts:
            raise UserError(f"a run's database must be SQLite or PostgreSQL, got {shown(url)}")
        self._insert = upserts[self._engine.dialect.name]
        with database_errors(url), self._engine.begin() as connection:
            self._check_version(connection)

    def close(self) -> None:
        """Closes the connections; the ledger is of no use afterwards."""
        self._engine.dispose()

    def responses(self, keys: Iterable[str]) -> dict[str, Response]:
        """Gives the remembered responses among keys, marked as cached."""
        found = self._read(_RESPONSES, keys)
        return {key: Response(**body, cached=True) for key, body in found.items()}

    def put_responses(self, responses: Mapping[str, Response]) -> None:
        """Remembers responses in one transaction, those that failed left out.

        Raises:
            UserError: the database cannot be written; what it held is intact.
        """
        bodies = {
            key: {
                "text": response.text,
                "tokens": response.tokens,
                "finish": response.finish,
                "prompt_tokens": response.prompt_tokens,
                "reused_tokens": response.reused_tokens,
            }
            for key, response in responses.items()
            if response.finish != "error"
        }
        self._write(_RESPONSES, bodies)

    def scores(self, keys: Iterable[str]) -> dict[str, Score]:
        """Gives the remembered scores among keys."""
        return {key: Score(**body) for key, body in self._read(_SCORES, keys).items()}

    def put_scores(self, scores: Mapping[str, Score]) -> None:
        """Remembers scores in one transaction, those without a verdict left out.

        Raises:
            UserError: the database cannot be written; what it held is intact.
        """
        bodies = {
            key: {**asdict(score), "aspects": dict(score.aspects)}
            for key, score in scores.items()
            if score.value is not None
        }
        self._write(_SCORES, bodies)

    @property
    def notes(self) -> LedgerNotes:
        """What judges have once said about instructions; texts by key."""
        return LedgerNotes(partial(self._read, _NOTES), partial(self._write, _NOTES))

    def counts(self) -> tuple[int, int]:
        """Gives how many responses and how many scores are remembered."""
        with database_errors(self.url), self._engine.connect() as connection:
            responses, scores = (
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (_RESPONSES, _SCORES)
            )
        return int(responses), int(scores)

    def copy_to(self, other: Ledger) -> None:
        """Gives another ledger all that this one remembers.

        Raises:
            UserError: one of the databases cannot be used.
        """
        for table in (_RESPONSES, _SCORES, _NOTES):
            with database_errors(self.url), self._engine.connect() as connection:
                rows = connection.execution_options(yield_per=_KEYS_PER_QUERY).execute(
                    sa.select(table.c.key, table.c.body)
                )
                for part in rows.mappings().partitions(_KEYS_PER_QUERY):
                    other._put(table, [dict(row) for row in part])

    def _check_version(self, connection: sa.Connection) -> None:
        if sa.inspect(connection).has_table(_META.name):
            query = sa.select(_META.c.value).where(_META.c.key == "schema_version")
            version = connection.execute(query).scalar_one_or_none()
            if version not in (None, str(SCHEMA_VERSION)):
                raise UserError(
                    f"this icl_align reads ledger version {SCHEMA_VERSION}, "
                    f"but {shown(self.url)} has "
                    f"version {version}; use the version of icl_align that wrote it, or a new run"
                )
        for table in (_RESPONSES, _SCORES, _NOTES, _META):
            connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        row = {"key": "schema_version", "value": str(SCHEMA_VERSION)}
        connection.execute(self._insert(_META).on_conflict_do_nothing(), [row])

    def _read(self, table: sa.Table, keys: Iterable[str] | None) -> dict[str, Any]:
        """Gives what a table holds under keys, or all of it."""
        if keys is None:
            with database_errors(self.url), self._engine.connect() as connection:
                keys = list(connection.execute(sa.select(table.c.key)).scalars())
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        with database_errors(self.url), self._engine.connect() as connection:
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                query = sa.select(table.c.key, table.c.body).where(table.c.key.in_(part))
                found |= {key: json.loads(body) for key, body in connection.execute(query)}
        return found

    def _write(self, table: sa.Table, bodies: Mapping[str, Any]) -> None:
        rows = [
            {"key": key, "body": json.dumps(body, allow_nan=False)} for key, body in bodies.items()
        ]
        if rows:
            self._put(table, rows)

    def _put(self, table: sa.Table, rows: list[dict[str, str]]) -> None:
        with database_errors(self.url), self._engine.begin() as connection:
            connection.execute(self._insert(table).on_conflict_do_nothing(), rows)


class LedgerNotes(MutableMapping[str, str]):
    """Texts by key in a ledger; a text that is there stays."""

    def __init__(
        self,
        read: Callable[[Iterable[str] | None], dict[str, Any]],
        write: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Stores how texts are read (all of them for None) and written."""
        self._read, self._write = read, write

    def __getitem__(self, key: str) -> str:
        return str(self._read([key])[key])

    def __setitem__(self, key: str, value: str) -> None:
        self._write({key: value})

    def __delitem__(self, key: str) -> None:
        raise TypeError("a ledger forgets nothing")

    def __iter__(self) -> Iterator[str]:
        return iter(self._read(None))

    def __len__(self) -> int:
        return len(self._read(None))


def parsed_url(url: str) -> sa.URL:
    """Reads a database URL.

    Raises:
        UserError: it is not one.
    """
    try:
        return sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise _unreadable(url, error) from error


def _unreadable(url: str, error: Exception) -> UserError:
    return UserError(
        "a database URL must look like sqlite:////folder/run.db or postgresql://host/name, "
        f"got {url.partition(':')[0]!r}: {error}"
    )


def shown(url: str) -> str:
    """Gives a URL as it may be printed: an SQLite file's path, or the URL without its password."""
    parsed = parsed_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.database or ":memory:"
    return parsed.render_as_string(hide_password=True)


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turns what a user can mend about a database (disk, rights, locks, network) into one line.

    Raises:
        UserError: naming the database, what it said, and what to do.
    """
    try:
        yield
    except sa.exc.DatabaseError as error:
        # The subclasses (integrity, programming, ...) would be our own mistakes: keep their
        # traceback.
        if type(error) not in (sa.exc.DatabaseError, sa.exc.OperationalError):
            raise
        said = (str(error.orig).strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"cannot use the database {shown(url)}: {said}; {_remedy(said)}") from error


def _remedy(said: str) -> str:
    remedies = {
        "full": "free some space and run it again, what was recorded is intact",
        "disk I/O": "check the disk and free some space, what was recorded is intact",
        "readonly": "make the file and its folder writable, or choose another output folder",
        "unable to open": "check that its folder exists and is writable",
        "not a database": "it is some other file, name another one",
        "malformed": "restore it from a copy, or start a new run",
        "locked": "another process is writing to it, stop that one or wait for it",
    }
    matches = (remedy for sign, remedy in remedies.items() if sign in said)
    return next(matches, "check that the server is reachable and the URL is right")


def _connect(url: str) -> sa.Engine:
    """Makes the SQLAlchemy engine of a URL, SQLite in write-ahead mode.

    Raises:
        UserError: the URL cannot be read, or its driver is not installed.
    """
    backend = parsed_url(url).get_backend_name()
    arguments = {"timeout": BUSY_SECONDS} if backend == "sqlite" else {}
    try:
        engine = sa.create_engine(url, connect_args=arguments)
    except sa.exc.NoSuchModuleError as error:
        raise _unreadable(url, error) from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"the driver of {shown(url)} is not installed ({error.name}); "
            "install it with: pip install 'icl-align[postgres]'"
        ) from error
    if backend == "sqlite":
        sa.event.listen(engine, "connect", _use_write_ahead_log)
    return engine


def _use_write_ahead_log(connection: Any, _record: object) -> None:
    """Lets readers (optuna-dashboard) and the writer work at once."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()
