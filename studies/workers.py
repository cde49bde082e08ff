"""Several workers on one study: processes of their own, started anew when they die, each with its device.

A worker is the command `mixscout worker`: what is started here can as well be started by hand, on any machine that
reaches the database, at any time. The devices are set before its Python starts, so before torch does.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import optuna

from pool.config import read_pool_file
from pool.errors import ConfigError, StudyError
from pool.progress import say, track
from search.trials import STOPPED_BY, Counts, count_trials
from studies.address import address_of
from studies.config import StudyFile, read_study_file
from studies.database import Database, open_database
from studies.outage import outlasting

POLL_SECONDS = 0.5
MOST_DEATHS = 3
"""A worker that died this often while the study got no further is not started again."""
_DEVICE = re.compile(r"[A-Za-z0-9-]+")


@dataclass
class _Worker:
    """One place for a worker: its device, the process in it now, and how often one died there in vain."""

    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    said: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    deaths: int = 0
    merges_at_death: int = -1

    def start(self) -> None:
        self.said.seek(0)
        self.said.truncate()
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=self.said, stdin=subprocess.DEVNULL
        )

    def last_words(self) -> str:
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("mixscout: ") if lines else f"exit code {self.process and self.process.poll()}"


def parse_devices(text: str | None) -> tuple[str, ...]:
    """Read `0,1` or `cpu`. Raises `ConfigError`."""
    devices = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    wrong = [device for device in devices if not _DEVICE.fullmatch(device)]
    if wrong:
        raise ConfigError(f"--devices {text!r} is no list of devices; write 0,1 for two GPUs, or cpu")
    return devices


def run_workers(study_file: Path, merges: int, count: int, devices: Sequence[str], *, accept: bool = False) -> Counts:
    """Advance a study to `merges` evaluations in all by `count` workers, devices in turn.

    Raises `StudyError` with what a worker said when none is left and the study is not finished.
    """
    config = read_study_file(study_file)
    address = address_of(config.database, _root(config) / "mixscout.db")
    workers = [_worker(study_file, merges, number, count, devices) for number in range(count)]
    for worker in workers:
        worker.command += ["--accept"] if accept else []
    wait = config.database_timeout_seconds
    with open_database(address, timeout_seconds=wait) as database, _stopped_at_the_end(workers):
        for worker in workers:
            worker.start()
        latest = -1
        with track(f"search {config.name}", merges) as show:
            while any(worker.process and worker.process.poll() is None for worker in workers):
                time.sleep(POLL_SECONDS)
                counts = outlasting(lambda: _counts(config, database), patience_seconds=wait)
                if counts.merges > latest:
                    latest = counts.merges
                    show(min(latest, merges), f"{count} workers, {counts.pruned} pruned")
                for worker in workers:
                    _replace_dead(worker, counts.merges)
        return _outcome(config, database, workers, merges)


def _root(config: StudyFile) -> Path:
    if config.pool is not None:
        return read_pool_file(config.pool).root
    assert config.table is not None, "a study stands on a pool or on a table"
    return config.table.parent


def _worker(study_file: Path, merges: int, number: int, count: int, devices: Sequence[str]) -> _Worker:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    if devices:
        device = devices[number % len(devices)]
        environment["CUDA_VISIBLE_DEVICES"] = "" if device == "cpu" else device
    command = [sys.executable, "-m", "studies.cli", "worker", str(study_file), "--merges", str(merges)]
    return _Worker(command, environment)


def _replace_dead(worker: _Worker, merges: int) -> None:
    code = worker.process.poll() if worker.process else None
    if code is None or code >= 0:
        return
    worker.deaths = worker.deaths + 1 if merges == worker.merges_at_death else 1
    worker.merges_at_death = merges
    if worker.deaths < MOST_DEATHS:
        say(f"a worker was killed ({signal.Signals(-code).name}); another one goes on with its trial")
        worker.start()


def _counts(config: StudyFile, database: Database) -> Counts:
    """Count the study's trials; nothing yet where no worker has made it."""
    if config.name not in optuna.get_all_study_names(database.optuna):
        return Counts(0, 0, 0, 0, 0, 0, 0, 0, 0)
    return count_trials(optuna.load_study(storage=database.optuna, study_name=config.name))


def _outcome(config: StudyFile, database: Database, workers: Sequence[_Worker], merges: int) -> Counts:
    counts = _counts(config, database)
    failed = [worker for worker in workers if worker.process and worker.process.poll() != 0]
    if counts.merges >= merges:
        return counts
    if len(failed) < len(workers):
        reason = optuna.load_study(storage=database.optuna, study_name=config.name).user_attrs.get(STOPPED_BY)
        say(f"search {config.name}: stopped after {counts.merges} of {merges} merges by {reason}")
        return counts
    raise StudyError(f"no worker is left after {counts.merges} of {merges} merges: {failed[0].last_words()}")


@contextmanager
def _stopped_at_the_end(workers: Sequence[_Worker]) -> Iterator[None]:
    """Stop workers that are still there when the block ends, also by SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            if worker.process and worker.process.poll() is None:
                worker.process.terminate()
        for worker in workers:
            if worker.process:
                worker.process.wait()
            worker.said.close()
