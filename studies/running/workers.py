"""Several workers on one study: processes of this machine or tasks of a cluster, replaced when they die."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import optuna

from pool.engines.engine import Engine, Job
from pool.errors import ConfigError, EngineError, StudyError, last_line
from pool.files.toml import Assignments, all_assigned, assigning
from pool.progress import kept, say, track
from search.trials import STOPPED_BY, Counts, count_trials
from studies.database.address import VARIABLE, Address
from studies.database.database import Database, open_database
from studies.database.errors import outlasting
from studies.opened.opened_study import OpenedStudy
from studies.opened.opening import open_study
from studies.running.run import run_search
from studies.study_file.place import address_of_study
from studies.study_file.study_file import read_study_file
from studies.terminal import quiet_libraries


@dataclass(frozen=True)
class Advancing:
    """What several workers advance together.

    study: its name in the database.
    total: its budget, in evaluations called `noun`.
    what: the work in words, for progress.
    advance: does the work of one of them on the opened study file.
    """

    study: str
    total: int
    what: str
    noun: str
    advance: Callable[[OpenedStudy], object]

    @classmethod
    def of_search(cls, name: str, merges: int, *, accept: bool = False) -> Advancing:
        return cls(name, merges, f"search {name}", "merges", partial(run_search, merges=merges, accept=accept))


@dataclass(frozen=True)
class Worker:
    """A job: do a share of the work on `study_file`.

    storage: the database's whole URL.
    assignments: of the command's files, by `--set`.
    """

    study_file: Path
    advance: Callable[[OpenedStudy], object]
    storage: str = field(repr=False)
    assignments: Assignments

    def __call__(self) -> str | None:
        """Work until the budget is spent; return an error as one line, for the other workers go on."""
        quiet_libraries()
        os.environ[VARIABLE] = self.storage
        try:
            with assigning(self.assignments), open_study(read_study_file(self.study_file)) as bench:
                self.advance(bench)
        except Exception as error:
            return last_line(error)
        return None


def run_workers(study_file: Path, work: Advancing, engine: Engine) -> Counts:
    """Advance a study to its budget by as many workers as the engine has places.

    Raises `StudyError` with a worker's error when all stop early, and `ConfigError` for a database out of reach.
    """
    config = read_study_file(study_file)
    address = address_of_study(config)
    _check_reach(address, engine)
    worker = Worker(study_file.resolve(), work.advance, address.full, all_assigned())
    wait, latest = config.database_timeout_seconds, -1
    with (
        open_database(address, timeout_seconds=wait) as database,
        kept(lambda: f"kept: {max(0, latest)} of {work.total} {work.noun} of study {work.study!r}"),
        track(work.what, work.total) as show,
    ):
        there = outlasting(lambda: _counts(work.study, database), patience_seconds=wait)
        if there.merges >= work.total:
            return there  # a worker takes seconds to start, only to find nothing to do

        def made() -> int:
            return outlasting(lambda: _counts(work.study, database), patience_seconds=wait).merges

        def watch() -> None:
            nonlocal latest
            before, latest = latest, made()
            if latest > before:
                show(min(latest, work.total), f"{engine.places} workers")

        jobs = [Job(f"worker {number}", worker, made) for number in range(1, engine.places + 1)]
        failures: list[str] = []
        try:
            failures += [said for _, said in engine.run(jobs, watch=watch) if said]
        except EngineError as error:
            failures = [str(error)] * len(jobs)
        return _outcome(work, database, failures, alive=len(jobs) - len(failures))


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


def _outcome(work: Advancing, database: Database, failures: Sequence[str], *, alive: int) -> Counts:
    counts = _counts(work.study, database)
    if counts.merges >= work.total:
        return counts
    so_far = f"after {counts.merges} of {work.total} {work.noun}"
    if alive:
        reason = optuna.load_study(storage=database.optuna, study_name=work.study).user_attrs.get(STOPPED_BY)
        say(f"{work.what}: stopped {so_far} by {reason}")
        return counts
    raise StudyError(f"no worker is left {so_far}: {failures[0]}")
