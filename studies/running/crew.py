"""The other workers on a study, as its database knows them: leases on trials, and one proposal at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import optuna

from studies.database.database import Database
from studies.database.leases import exclusively

LONGEST_WAIT_SECONDS = 1.0


class DatabaseCrew:
    """Workers that share a database, on this machine and on others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, study: optuna.Study) -> None:
        """Read the study's trials; until the next look they are as they are now, but for one's own."""
        self._database.optuna.look(study._study_id)

    @contextmanager
    def asking(self, study: optuna.Study) -> Iterator[None]:
        """Let no other worker ask for a trial, or propose, while the block runs."""
        with exclusively(self._database.engine, self._database.address, _scope(study)):
            yield

    def take(self, study: optuna.Study, number: int) -> bool:
        """Take a trial; False when another living worker is at it."""
        return self._database.leases.take(_scope(study), str(number))

    def leave(self, study: optuna.Study, number: int) -> None:
        """Leave a trial that is finished."""
        self._database.leases.give_back(_scope(study), str(number))

    def publish(self) -> None:
        """Send what was held back of the trial in hand."""
        self._database.optuna.send()

    def busy(self, study: optuna.Study) -> set[int]:
        """Name the trials that other living workers are at."""
        return {int(item) for item in self._database.leases.held_by_others(_scope(study))}

    def wait(self, times: int) -> None:
        """Wait for others, at most a second."""
        time.sleep(min(LONGEST_WAIT_SECONDS, 0.05 * 1.3**times))


def _scope(study: optuna.Study) -> str:
    return f"study-{study._study_id}"
