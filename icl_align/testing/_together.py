"""Two workers at once, each with a sampler of its own, on one storage."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import optuna
from optuna.trial import TrialState

from icl_align.space import Space
from icl_align.testing._studies import Desk, SamplerMaker

_TRIALS = 8
"""Trials of each worker."""


def check_together(make: SamplerMaker, space: Space, ids: Sequence[str]) -> None:
    """Checks two workers on a storage in memory, and two on an SQLite file.

    Args:
        make: Makes each worker's sampler.
        space: What they search.
        ids: The development examples.

    Raises:
        AssertionError: one of them broke, or trials are missing.
    """
    _work_together(make, space, ids, optuna.storages.InMemoryStorage, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).as_posix()}/study.db"
        connect = {"connect_args": {"timeout": 60}}
        open_storage = partial(optuna.storages.RDBStorage, url, engine_kwargs=connect)
        _work_together(make, space, ids, open_storage, _close)


def _work_together(
    make: SamplerMaker,
    space: Space,
    ids: Sequence[str],
    open_storage: Callable[[], optuna.storages.BaseStorage],
    close: Callable[[optuna.storages.BaseStorage], None],
) -> None:
    storage = open_storage()
    raised: list[BaseException] = []

    def work(desk: Desk) -> None:
        try:
            for _ in range(_TRIALS):
                desk.tell(desk.ask("beside another worker on the same storage"))
        except BaseException as error:  # noqa: BLE001 - given to the main thread
            raised.append(error)
        finally:
            storage.remove_session()

    try:
        desks = [Desk(make, space, ids, 0, storage) for _ in range(2)]
        threads = [threading.Thread(target=work, args=(desk,), daemon=True) for desk in desks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if raised:
            raise raised[0]
        told = desks[0].study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        assert len(told) == 2 * _TRIALS, (
            f"two workers of {_TRIALS} trials must make {2 * _TRIALS}, there are {len(told)}"
        )
    finally:
        close(storage)


def _close(storage: optuna.storages.BaseStorage) -> None:
    assert isinstance(storage, optuna.storages.RDBStorage)
    storage.remove_session()
    storage.engine.dispose()
