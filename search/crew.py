"""Workers and trials: who works at which trial, and evaluations that raise or lose their worker.

A running trial reserves a merge. A failed evaluation is tried again a bounded number of times. A worker's death raises
nothing, so every beginning is counted.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from objectives.evaluation import Evaluation
from pool.engines.resources import device_fault
from pool.errors import DeviceError, MixscoutError, NonFiniteLossError, StudyError
from search.history import History
from search.optuna_private import is_running, taken_up
from search.trials import BEGUN, RAISED, REASON

MOST_BEGINNINGS = 12
"""An evaluation begun so often, and ended each time by a death or an exception, is not begun again."""
MOST_FAILED_IN_A_ROW = 3
"""So many evaluations raising in a row have a fault in common."""


class Crew(Protocol):
    """The other workers, seen from one of them."""

    def look(self, study: optuna.Study) -> None:
        """Read the study's trials; others' trials stay so until the next look."""

    def asking(self, study: optuna.Study) -> AbstractContextManager[None]:
        """Keep other workers from asking and proposing while the block runs."""

    def take(self, study: optuna.Study, number: int) -> bool:
        """Take a trial; False if another worker has it."""

    def leave(self, study: optuna.Study, number: int) -> None:
        """Leave a finished trial."""

    def publish(self) -> None:
        """Let others see the trial in hand as written so far."""

    def busy(self, study: optuna.Study) -> set[int]:
        """Name the trials of other living workers."""

    def wait(self, times: int) -> None:
        """Wait for others, the longer the more `times` in a row."""


class Alone:
    """No other workers: trials left running are nobody's."""

    def look(self, study: optuna.Study) -> None: ...

    def asking(self, study: optuna.Study) -> AbstractContextManager[None]:
        return nullcontext()

    def take(self, study: optuna.Study, number: int) -> bool:
        return True

    def leave(self, study: optuna.Study, number: int) -> None: ...

    def publish(self) -> None: ...

    def busy(self, study: optuna.Study) -> set[int]:
        return set()

    def wait(self, times: int) -> None:
        time.sleep(0.01)


ALONE = Alone()


def left_running(study: optuna.Study, history: History, merges: int, crew: Crew) -> optuna.Trial | None:
    """Take up the first trial of a dead worker, under its own number; None without one.

    A trial beyond the budget waits until the budget is extended.
    """
    room = merges - history.counts.merges
    busy = crew.busy(study) if history.running else set()
    for trial in history.running[: max(0, room)]:
        if trial.number in busy or not crew.take(study, trial.number):
            continue
        if is_running(study, trial):
            return taken_up(study, trial)
        crew.leave(study, trial.number)  # it was finished a moment ago
    return None


def has_room(history: History, merges: int) -> bool:
    """Tell whether another trial may be asked for: each running trial may become a merge."""
    return history.counts.merges + len(history.running) < merges


@dataclass(frozen=True)
class Failed:
    """The reason a trial has no value; `raised` unless the loss was not finite."""

    reason: str
    raised: bool


def attempt(
    trial: optuna.Trial, evaluate: Callable[[], Evaluation], *, retries: int, begin: Callable[[], None]
) -> Evaluation | Failed:
    """Evaluate, after an exception again up to `retries` times; call `begin` before each try.

    A loss that is not finite is not tried again. Our own and the database's errors are raised: they are the study's.
    Raises `DeviceError` after a GPU's fault; the trial stays running, for the next process to take up.
    """
    error: Exception | None = None
    for _ in range(retries + 1):
        begun = int(trial.user_attrs.get(BEGUN, 0))
        if begun >= MOST_BEGINNINGS:
            return Failed(f"begun {begun} times, and its worker died or it raised every time", raised=True)
        trial.set_user_attr(BEGUN, begun + 1)
        begin()
        try:
            return evaluate()
        except NonFiniteLossError as found:
            return Failed(str(found), raised=False)
        except (MixscoutError, SQLAlchemyError, OptunaError):
            raise
        except Exception as found:
            if fault := device_fault(found):
                raise DeviceError(
                    fault
                ) from None  # another try would fail too, and the trial waits for another process
            error = found.with_traceback(None)  # its frames hold the memory that ran out
        gc.collect()
    return Failed(f"{type(error).__name__}: {error} (tried {retries + 1} times)", raised=True)


def keep_failed(study: optuna.Study, trial: optuna.Trial, failed: Failed) -> None:
    trial.set_user_attr(REASON, failed.reason)
    if failed.raised:
        trial.set_user_attr(RAISED, True)
    study.tell(trial, state=TrialState.FAIL)


def check_not_hopeless(ended: list[FrozenTrial]) -> None:
    """Raise `StudyError` if the last evaluations all raised: the rest of the budget would go the same way.

    `ended` are the completed and failed trials by number.
    """
    last = ended[-MOST_FAILED_IN_A_ROW:]
    if len(last) == MOST_FAILED_IN_A_ROW and all(RAISED in trial.user_attrs for trial in last):
        raise StudyError(
            f"the last {len(last)} evaluations failed, the last one by {last[-1].user_attrs[REASON]}; "
            "nothing else was lost: put it right, and run the same command again"
        )
