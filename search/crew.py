"""What the loop knows of other workers on the same study: who asks when, and which trials are being worked at.

A running trial is a merge reserved: Optuna makes trials one by one, in a transaction, and one is asked for only while
finished merges and running trials together are fewer than the budget.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import optuna
from optuna.trial import TrialState

from search.history import History


class Crew(Protocol):
    """The other workers, seen from one of them."""

    def look(self, study: optuna.Study) -> None:
        """Read the study's trials; until the next look they are as they are now, but for one's own."""

    def asking(self, study: optuna.Study) -> AbstractContextManager[None]:
        """Let no other worker ask for a trial, or propose, while the block runs."""

    def take(self, study: optuna.Study, number: int) -> bool:
        """Take a trial; False when another worker is at it."""

    def leave(self, study: optuna.Study, number: int) -> None:
        """Leave a trial that is finished."""

    def publish(self) -> None:
        """Let others see what was written on the trial in hand."""

    def busy(self, study: optuna.Study) -> set[int]:
        """Name the trials that other living workers are at."""

    def wait(self, times: int) -> None:
        """Wait for others to finish something, the longer the more `times` it was waited for in a row."""


class Alone:
    """No other workers: what is left running is nobody's."""

    def look(self, study: optuna.Study) -> None:
        """Do nothing."""

    def asking(self, study: optuna.Study) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def take(self, study: optuna.Study, number: int) -> bool:
        """Take it."""
        return True

    def leave(self, study: optuna.Study, number: int) -> None:
        """Do nothing."""

    def publish(self) -> None:
        """Do nothing."""

    def busy(self, study: optuna.Study) -> set[int]:
        """Name none."""
        return set()

    def wait(self, times: int) -> None:
        """Wait a little."""
        time.sleep(0.01)


ALONE = Alone()


def left_running(study: optuna.Study, history: History, merges: int, crew: Crew) -> optuna.Trial | None:
    """Take up the first trial that a dead worker left, under its own number; None where there is none.

    One beyond the budget stays as it is until the budget is extended: only trials before it count against its place.
    """
    room = merges - history.counts.merges
    busy = crew.busy(study) if history.running else set()
    for trial in history.running[: max(0, room)]:
        if trial.number in busy or not crew.take(study, trial.number):
            continue
        if study._storage.get_trial(trial._trial_id).state is TrialState.RUNNING:
            return optuna.Trial(study, trial._trial_id)
        crew.leave(study, trial.number)  # it was finished a moment ago
    return None


def has_room(history: History, merges: int) -> bool:
    """Tell whether another trial may be asked for: it might become a merge, as every running one may."""
    return history.counts.merges + len(history.running) < merges
