"""Several workers on one study: processes of this machine or tasks of a cluster, replaced when they die."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from pool.config.pool_file import read_pool_file
from pool.engines.engine import Engine, Job
from pool.errors import ConfigError, EngineError, StudyError, last_line
from pool.files.toml import Assignments, all_assigned, assigning
from pool.progress import kept, say, track
from search.trials import STOPPED_BY, Counts, count_trials
from studies.database.address import VARIABLE, Address, address_of
from studies.database.database import Database, open_database
from studies.database.errors import outlasting
from studies.opened.opening import open_study
from studies.running.run import run_search
from studies.study_file.study_file import StudyFile, read_study_file
from studies.terminal import quiet_libraries


@dataclass(frozen=True)
class Worker:
    """A job: advance the study of `study_file` to `merges` in all.

    storage: the database's whole URL.
    assignments: of the command's files, by `--set`.
    """

    study_file: Path
    merges: int
    accept: bool
    storage: str = field(repr=False)
    assignments: Assignments

    def __call__(self) -> str | None:
        """Work until the budget is spent; return an error as one line, for the other workers go on."""
        quiet_libraries()
        os.environ[VARIABLE] = self.storage
        try:
            with assigning(self.assignments), open_study(read_study_file(self.study_file)) as bench:
                run_search(bench, self.merges, accept=self.accept)
        except Exception as error:
            return last_line(error)
        return None


def run_workers(study_file: Path, merges: int, engine: Engine, *, accept: bool = False) -> Counts:
    """Advance a study to `merges` evaluations in all by as many workers as the engine has places.

    Raises `StudyError` with a worker's error when all stop early, and `ConfigError` for a database out of reach.
    """
    config = read_study_file(study_file)
    address = address_of(config.database, _root(config) / "mixscout.db")
    _check_reach(address, engine)
    worker = Worker(study_file.resolve(), merges, accept, address.full, all_assigned())
    wait, latest = config.database_timeout_seconds, -1
    with (
        open_database(address, timeout_seconds=wait) as database,
        kept(lambda: f"kept: {max(0, latest)} of {merges} merges of study {config.name!r}"),
        track(f"search {config.name}", merges) as show,
    ):
        there = outlasting(lambda: _counts(config.name, database), patience_seconds=wait)
        if there.merges >= merges:
            return there  # a worker takes seconds to start, only to find nothing to do

        def made() -> int:
            return outlasting(lambda: _counts(config.name, database), patience_seconds=wait).merges

        def watch() -> None:
            nonlocal latest
            before, latest = latest, made()
            if latest > before:
                show(min(latest, merges), f"{engine.places} workers")

        jobs = [Job(f"worker {number}", worker, made) for number in range(1, engine.places + 1)]
        failures: list[str] = []
        try:
            failures += [said for _, said in engine.run(jobs, watch=watch) if said]
        except EngineError as error:
            failures = [str(error)] * len(jobs)
        return _outcome(config.name, database, merges, failures, alive=len(jobs) - len(failures))


def _root(config: StudyFile) -> Path:
    if config.pool is not None:
        return read_pool_file(config.pool).root
    assert config.table is not None, "a study stands on a pool or on a table"
    return config.table.parent


def _check_reach(address: Address, engine: Engine) -> None:
    if address.file and engine.machines > 1:
        raise ConfigError(
            f"the cluster has {engine.machines} machines, and {address} is a SQLite file, which is for one: set "
            "`database` to postgresql://user@host/name, or MIXSCOUT_STORAGE where it takes a password"
        )


def _counts(name: str, database: Database) -> Counts:
    """Count a study's trials; none before a worker has made the study."""
    if name not in optuna.get_all_study_names(database.optuna):
        return Counts()
    return count_trials(optuna.load_study(storage=database.optuna, study_name=name))


def _outcome(name: str, database: Database, merges: int, failures: Sequence[str], *, alive: int) -> Counts:
    counts = _counts(name, database)
    if counts.merges >= merges:
        return counts
    if alive:
        reason = optuna.load_study(storage=database.optuna, study_name=name).user_attrs.get(STOPPED_BY)
        say(f"search {name}: stopped after {counts.merges} of {merges} merges by {reason}")
        return counts
    raise StudyError(f"no worker is left after {counts.merges} of {merges} merges: {failures[0]}")
