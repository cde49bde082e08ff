"""An evaluation that raises, or whose worker dies, is tried again a bounded number of times, then kept as failed.

A worker's death leaves no exception to count, so every beginning is written down before it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from objectives.evaluation import Evaluation
from pool.errors import MixscoutError, NonFiniteLossError, StudyError
from search.trials import BEGUN, RAISED, REASON

MOST_BEGINNINGS = 12
"""An evaluation begun this often, whose workers died every time or raised, is not begun again."""
MOST_FAILED_IN_A_ROW = 3
"""So many evaluations that raised, one after the other: something is wrong with all of them."""


@dataclass(frozen=True)
class Failed:
    """Why a trial has no value; `raised` when it was not the loss."""

    reason: str
    raised: bool


def attempt(
    trial: optuna.Trial, evaluate: Callable[[], Evaluation], *, retries: int, begin: Callable[[], None]
) -> Evaluation | Failed:
    """Evaluate, after an exception again up to `retries` times; `begin` is called before each time.

    A loss that is not finite is not tried again, and errors of ours and of the database are the study's, not the
    trial's: they are raised.
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
            error = found.with_traceback(None)  # its frames hold the memory that ran out
        gc.collect()
    return Failed(f"{type(error).__name__}: {error} (tried {retries + 1} times)", raised=True)


def keep_failed(study: optuna.Study, trial: optuna.Trial, failed: Failed) -> None:
    """Keep a failed trial with its reason."""
    trial.set_user_attr(REASON, failed.reason)
    if failed.raised:
        trial.set_user_attr(RAISED, True)
    study.tell(trial, state=TrialState.FAIL)


def check_not_hopeless(ended: list[FrozenTrial]) -> None:
    """Raise `StudyError` when the last evaluations all raised: the rest of the budget would go the same way.

    `ended` are the completed and failed trials in the order of their numbers.
    """
    last = ended[-MOST_FAILED_IN_A_ROW:]
    if len(last) == MOST_FAILED_IN_A_ROW and all(RAISED in trial.user_attrs for trial in last):
        raise StudyError(
            f"the last {len(last)} evaluations failed, the last one by {last[-1].user_attrs[REASON]}; "
            "nothing else was lost: put it right, and run the same command again"
        )
