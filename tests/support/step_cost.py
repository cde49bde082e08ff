"""What a merge costs besides its evaluation, in a study that has N trials already: by hand, never in a test.

python tests/support/step_cost.py ADDRESS TRIALS...

Prints milliseconds a merge for an objective that takes none, wall-clock and CPU, and how much of them is dealings with
the database; the rest is the loop's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import create_trial
from sqlalchemy import Connection

from objectives.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import CACHED, STANDARD_ERROR, STOPPED_EARLY, TOKENS_READ, VERDICT
from studies.address import parse
from studies.crew import DatabaseCrew
from studies.database import Database, open_database
from studies.evaluations import EvaluationStore, remembered
from studies.leases import Leases
from studies.trial_storage import TrialStorage

NAMES = tuple("abcdefgh")
MERGES = 20
ATTRIBUTES = {VERDICT: "evaluate", CACHED: False, TOKENS_READ: 1000, STOPPED_EARLY: False, STANDARD_ERROR: 0.1}


@dataclass
class Clock:
    """Sums the time spent in the functions it is put around; one within another counts once."""

    wall: float = 0.0
    cpu: float = 0.0
    depth: int = 0

    def put_around(self, owner: type, *names: str) -> None:
        """Time methods of a class."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., object]) -> Callable[..., object]:
        def timed(*arguments: object, **options: object) -> object:
            wall, cpu = time.perf_counter(), time.process_time()
            self.depth += 1
            try:
                return method(*arguments, **options)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.wall += time.perf_counter() - wall
                    self.cpu += time.process_time() - cpu

        return timed


def measure(opened: Database, trials: int, clock: Clock) -> tuple[float, float]:
    """Fill a study with trials and advance it; return wall-clock and CPU milliseconds a merge."""
    name = f"cost-{trials}-{time.time()}"
    study = optuna.create_study(storage=opened.optuna, study_name=name)
    shape = dict.fromkeys(NAMES, FloatDistribution(0.0, 1.0))
    for number in range(trials):
        params = {name: (number * 7 % 11 + k + 1) / 20 for k, name in enumerate(NAMES)}
        study.add_trial(create_trial(params=params, distributions=shape, value=1.0, user_attrs=ATTRIBUTES))
    objective = remembered(QuadraticLoss(Mixture.uniform(NAMES), [1.0] * len(NAMES)), opened.evaluations)
    search = Search(objective, CappedSimplex.of(NAMES), STRATEGIES["random"], trials)
    with opened.optuna.worked_with():
        advance(study, search, trials + 2, crew=DatabaseCrew(opened))
        clock.wall = clock.cpu = 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        advance(study, search, trials + 2 + MERGES, crew=DatabaseCrew(opened))
        return (time.perf_counter() - wall) / MERGES * 1e3, (time.process_time() - cpu) / MERGES * 1e3


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    clock = Clock()
    clock.put_around(_CachedStorage, *(name for name in vars(_CachedStorage) if not name.startswith("_")))
    clock.put_around(EvaluationStore, "find", "keep")
    clock.put_around(Leases, "take", "give_back", "held_by_others")
    clock.put_around(TrialStorage, "send")
    clock.put_around(Connection, "execute", "commit", "close")
    with open_database(parse(sys.argv[1], "ADDRESS"), timeout_seconds=60) as database:
        for count in map(int, sys.argv[2:]):
            wall, cpu = measure(database, count, clock)
            share, on_cpu = clock.wall / MERGES * 1e3, clock.cpu / MERGES * 1e3
            print(f"{count} trials: {wall:.1f} ms a merge ({cpu:.1f} CPU), database {share:.1f} ({on_cpu:.1f} CPU)")
