"""A run's study in its database: opened, guarded against a second writer, read as plain records."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from icl_align.errors import UserError
from icl_align.evaluation import Evaluation
from icl_align.ledger import BUSY_SECONDS, database_errors, parsed_url, shown
from icl_align.search.proposing import TRIAL_ATTR
from icl_align.types import Usage

RECORD_VERSION = 1
DEFAULT_STUDY = "sweep"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a study, self-contained.

    Attributes:
        number: Position in the study, from 0.
        state: "complete" (measured on all development examples), "partial" (on some), "fail" (no
            verdict), "running" (cut off) or "waiting" (a warm start to come).
        params: The point of the space.
        evaluation: The whole prompt and its scores per example; None before it was measured.
        usage: What measuring it has cost since the last start of the run.
        seconds: How long that took.
        measured: On how many examples this trial measured it; the others' scores are earlier trials'.
        length: Tokens of the prompt without a query; a guess where the engine cannot count.
        note: Anything worth saying, such as the trial whose scores were reused.
    """

    number: int
    state: str
    params: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    note: str = ""
    measured: int = 0
    length: int = 0

    @property
    def mean(self) -> float | None:
        """The mean over all development examples' verdicts; None unless complete."""
        return self.evaluation.mean if self.evaluation and self.state == "complete" else None

    def to_json(self) -> dict[str, Any]:
        """Gives what the study stores about a trial: no ids that need another file to be read."""
        if self.evaluation is None:
            raise ValueError(f"trial {self.number} has not been measured")
        evaluation = self.evaluation
        return {
            "version": RECORD_VERSION,
            **evaluation.to_json(),
            "usage": asdict(self.usage),
            "seconds": self.seconds,
            "note": self.note,
            "measured": self.measured,
            "length": self.length,
        }


def record_of(trial: FrozenTrial) -> TrialRecord:
    """Reads a trial of Optuna's as a record.

    Raises:
        UserError: it was written by another version of icl_align.
    """
    state = "partial" if trial.state == TrialState.PRUNED else trial.state.name.lower()
    stored = trial.user_attrs.get(TRIAL_ATTR)
    if stored is None:
        return TrialRecord(trial.number, state, trial.params)
    if stored.get("version") != RECORD_VERSION:
        raise UserError(
            f"this icl_align reads trial version {RECORD_VERSION}, "
            f"but trial {trial.number} has version "
            f"{stored.get('version')}; use the version of icl_align that wrote it, or a new run"
        )
    usage = Usage(**stored["usage"])
    evaluation = Evaluation.from_json(stored, usage)
    measured = stored.get("measured", len(evaluation.ids))
    return TrialRecord(
        trial.number,
        state,
        trial.params,
        evaluation,
        usage,
        stored["seconds"],
        stored["note"],
        measured,
        stored.get("length", 0),
    )


def read_trials(url: str, study_name: str = DEFAULT_STUDY) -> tuple[TrialRecord, ...]:
    """Reads all trials of a run, in order, whether or not it is still going on.

    Raises:
        UserError: there is no such run, or its database cannot be read.
    """
    path = _file_of(url)
    if path is not None and not path.exists():
        raise UserError(f"there is no run at {path}; start one with: icl-align run EXPERIMENT.toml")
    with opened_study(url, study_name, create=False) as study:
        return tuple(record_of(trial) for trial in study.get_trials(deepcopy=False))


@contextmanager
def opened_study(url: str, name: str, *, create: bool) -> Iterator[optuna.Study]:
    """Opens a study that maximises, with Optuna quiet, and closes its connections afterwards.

    Raises:
        UserError: the database cannot be used, or holds no study of that name and create is False.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _study_errors(url):
            if not create and not _there(url, name):
                raise UserError(f"the database {shown(url)} holds no run named {name!r}")
            storage = _storage(url)
            try:
                yield _load(storage, name, create=create)
            finally:
                storage.remove_session()
                storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """Keeps a second process out of a run while this one writes it; ends with the process.

    SQLite: a lock file beside the database. PostgreSQL: an advisory lock.

    Raises:
        UserError: another process holds it, or the lock file cannot be written.
    """
    path = _file_of(url)
    if path is not None:
        if not path.parent.is_dir():  # filelock would make it
            raise UserError(
                f"cannot use the database {path}: its folder does not exist; make it first"
            )
        lock = filelock.FileLock(f"{path}.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise _taken(url) from None
        except OSError as error:
            raise UserError(
                f"cannot write beside the database {path}: {error.strerror}; "
                "check that the folder exists and is writable"
            ) from error
        try:
            yield
        finally:
            lock.release()
    elif parsed_url(url).get_backend_name() == "postgresql":
        with database_errors(url):
            connection = sa.create_engine(url, isolation_level="AUTOCOMMIT").connect()
            query = sa.select(sa.func.pg_try_advisory_lock(zlib.crc32(b"icl_align run")))
            held = connection.execute(query).scalar_one()
        try:
            if not held:
                raise _taken(url)
            yield
        finally:
            connection.close()
            connection.engine.dispose()
    else:  # an in-memory database belongs to its process
        yield


def _taken(url: str) -> UserError:
    return UserError(
        f"another process is working on the run in {shown(url)}; wait for it to end, or stop it"
    )


def _file_of(url: str) -> Path | None:
    """Gives the file of an SQLite URL, None for a server or a database in memory."""
    parsed = parsed_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def _there(url: str, name: str) -> bool:
    """Whether a database has a study, found out without writing.

    Optuna makes its tables whenever a storage is opened; a reader that does so while a sweep is making
    them would end that sweep.
    """
    path = _file_of(url)
    if path is not None and not path.exists():
        return False
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if path else {}
    engine = sa.create_engine(url, **options)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("studies"):
                return False
            query = sa.text("SELECT 1 FROM studies WHERE study_name = :name")
            return connection.execute(query, {"name": name}).first() is not None
    finally:
        engine.dispose()


def _storage(url: str) -> optuna.storages.RDBStorage:
    timeout = {"connect_args": {"timeout": BUSY_SECONDS}} if _file_of(url) else {}
    literal = url.replace("{", "{{").replace("}", "}}")  # Optuna formats URLs as templates
    try:
        storage = optuna.storages.RDBStorage(literal, engine_kwargs=dict(timeout))
    except RuntimeError as error:  # tables of another Optuna
        raise UserError(f"cannot use the study in {shown(url)}: {error}") from error
    if timeout:
        storage.remove_session()
        storage.engine.dispose()
        sa.event.listen(storage.engine, "connect", _write_quickly)
    return storage


def _write_quickly(connection: Any, _record: object) -> None:
    """Saves a wait for the disk at each of a trial's dozen writes; a killed process loses nothing by it.

    With a write-ahead log only a power failure can take the last trials, never the file.
    """
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _load(storage: optuna.storages.RDBStorage, name: str, *, create: bool) -> optuna.Study:
    pruner = optuna.pruners.NopPruner()
    if create:
        return optuna.create_study(
            storage=storage,
            pruner=pruner,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
    return optuna.load_study(study_name=name, storage=storage, pruner=pruner)


@contextmanager
def _study_errors(url: str) -> Iterator[None]:
    """As `database_errors`, also for the errors that Optuna wraps."""
    with database_errors(url):
        try:
            yield
        except StorageInternalError as error:
            if isinstance(error.__cause__, sa.exc.DatabaseError):
                raise error.__cause__ from None
            raise
