"""One search as a course: what was spent after every merge, and the best value by then.

Everything is charged as if nothing had been remembered from other studies: a recalled evaluation saved time, but a
strategy that runs second must not look cheaper for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives.evaluation import FORWARDS_PER_GRADIENT
from search.loop import Search
from search.trials import CACHED, SECONDS, START, TOKENS_READ, best_trial, finished_trials, value_of
from studies.database.evaluations import Cost
from studies.opened.opened_study import OpenedStudy
from studies.running.plan import planned_search

Axis = Literal["forwards", "tokens", "seconds"]


@dataclass(frozen=True)
class Course:
    """A search of M merges: sums spent after each of them (M,), and the value of the incumbent (M,).

    `forwards` are forward-equivalents, `tokens` held-out tokens read, `seconds` those of proposing, judging and
    evaluating, pruned proposals included. `best` is NaN before there is an incumbent. `start` are the digests of the
    start design's mixtures by name.
    """

    study: str
    seed: int
    forwards: tuple[int, ...]
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    best: tuple[float, ...]
    start: Mapping[str, str]

    @property
    def merges(self) -> int:
        """The merges charged."""
        return len(self.forwards)

    def spent(self, axis: Axis) -> tuple[float, ...]:
        """What was spent after each merge (M,), by the name of what is counted."""
        return {"forwards": self.forwards, "tokens": self.tokens, "seconds": self.seconds}[axis]

    def best_at(self, axis: Axis, amount: float) -> float:
        """The incumbent's value once so much was spent; NaN where there was none."""
        done = int(np.searchsorted(self.spent(axis), amount, side="right"))
        return self.best[done - 1] if done else float("nan")

    def until(self, forwards: int) -> Course:
        """Leave out the merges beyond so many forward-equivalents."""
        done = int(np.searchsorted(self.forwards, forwards, side="right"))
        kept = {name: getattr(self, name)[:done] for name in ("forwards", "tokens", "seconds", "best")}
        return replace(self, **kept)


def forwards_per_merge(search: Search) -> int:
    """Give the forward-equivalents of one merge: three with its gradient, else one, also when it stops early."""
    return FORWARDS_PER_GRADIENT if search.wants_gradient else 1


def course_of(bench: OpenedStudy, study: optuna.Study) -> Course:
    """Follow a study's trials, charging what was remembered at what it had cost."""
    unit = forwards_per_merge(planned_search(bench))
    costs = bench.database.evaluations.costs(bench.objective.digest)
    incumbent: FrozenTrial | None = None
    tokens, seconds = 0, 0.0
    rows: list[tuple[int, int, float, float]] = []
    start = {}
    for trial in finished_trials(study):
        seconds += _seconds(trial)
        if trial.state is TrialState.PRUNED:
            continue
        digest = bench.space.mixture_of(trial).digest
        known = costs.get(digest) if trial.user_attrs.get(CACHED) else None
        tokens += known.tokens_read if known else trial.user_attrs.get(TOKENS_READ, 0)
        seconds += _saved(known, unit)
        if START in trial.user_attrs:
            start[str(trial.user_attrs[START])] = digest
        if trial.state is TrialState.COMPLETE:
            incumbent = best_trial([incumbent, trial] if incumbent else [trial])
        rows.append((unit * (len(rows) + 1), tokens, seconds, value_of(incumbent) if incumbent else float("nan")))
    forwards, read, taken, best = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Course(study.study_name, bench.config.search.seed, forwards, read, taken, best, start)


def _seconds(trial: FrozenTrial) -> float:
    """Take what the search measured; studies of before it did have the trial's own times, downtime included."""
    passed = trial.duration.total_seconds() if trial.duration else 0.0
    return float(trial.user_attrs.get(SECONDS, passed))


def _saved(known: Cost | None, unit: int) -> float:
    """Give the seconds that remembering saved, scaled where one of the two evaluations alone had a gradient."""
    if known is None:
        return 0.0
    return known.seconds * unit / (FORWARDS_PER_GRADIENT if known.with_gradient else 1)
