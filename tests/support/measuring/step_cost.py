"""What a merge costs besides its evaluation, in a study that has N trials already: by hand, never in a test.

python tests/support/measuring/step_cost.py ADDRESS-OF-AN-EMPTY-DATABASE TRIALS

Prints milliseconds a merge for an objective that takes none, and how much of them is dealings with the database; the
rest is the loop's own.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import optuna
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, insert, text

from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.loop import Search, advance
from search.optuna_private import StudyStorage, TrialStorage
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import (
    CACHED,
    STANDARD_ERROR,
    STOPPED_EARLY,
    TOKENS_READ,
    VERDICT,
    Counts,
    count_trials,
)
from studies.database.address import parse
from studies.database.database import Database, open_database
from studies.database.evaluations import EvaluationStore
from studies.database.leases import Leases
from studies.database.remembered import RememberedObjective
from studies.running.run import DatabaseCrew

NAMES = tuple("abcdefgh")
MERGES = 40
WARM_UP = 3
FIRST_ID = 1000
ATTRIBUTES = {VERDICT: "evaluate", CACHED: False, TOKENS_READ: 1000, STOPPED_EARLY: False, STANDARD_ERROR: 0.1}


@dataclass
class Clock:
    """Sums the time spent in the functions it is put around; one within another counts once."""

    wall: float = 0.0
    depth: int = 0

    def put_around(self, owner: type, *names: str) -> None:
        """Time methods of a class."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., object]) -> Callable[..., object]:
        def timed(*arguments: object, **options: object) -> object:
            wall = time.perf_counter()
            self.depth += 1
            try:
                return method(*arguments, **options)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.wall += time.perf_counter() - wall

        return timed


def fill(study: optuna.Study, trials: int) -> None:
    """Give a study so many finished trials, in a few statements."""
    backend = study._storage._backend
    ids = range(FIRST_ID, FIRST_ID + trials)
    now = datetime.now()
    shape = distribution_to_json(FloatDistribution(0.0, 1.0))
    with backend.engine.begin() as connection:
        connection.execute(
            insert(models.TrialModel.__table__),
            [
                {
                    "trial_id": one,
                    "number": one + 1 - FIRST_ID,
                    "study_id": study._study_id,
                    "state": TrialState.COMPLETE,
                }
                | {"datetime_start": now, "datetime_complete": now}
                for one in ids
            ],
        )
        connection.execute(
            insert(models.TrialParamModel.__table__),
            [
                {"trial_id": one, "param_name": name, "param_value": (one * 7 % 11 + k + 1) / 20}
                | {"distribution_json": shape}
                for one in ids
                for k, name in enumerate(NAMES)
            ],
        )
        value = {"objective": 0, "value": 1.0, "value_type": models.TrialValueModel.TrialValueType.FINITE}
        connection.execute(insert(models.TrialValueModel.__table__), [{"trial_id": one, **value} for one in ids])
        connection.execute(
            insert(models.TrialUserAttributeModel.__table__),
            [
                {"trial_id": one, "key": key, "value_json": json.dumps(attribute)}
                for one in ids
                for key, attribute in ATTRIBUTES.items()
            ],
        )


def measure(opened: Database, trials: int, clock: Clock) -> list[tuple[float, float]]:
    """Fill a study with trials and advance it; return milliseconds of every merge, and of them with the database."""
    study = optuna.create_study(storage=opened.optuna, study_name="cost")
    study.add_trial(create_trial(params={}, distributions={}, state=TrialState.FAIL))
    fill(study, trials)
    if opened.address.kind == "postgresql":
        with opened.engine.begin() as connection:
            connection.execute(text(f"SELECT setval('trials_trial_id_seq', {FIRST_ID + trials})"))
            connection.execute(text("ANALYZE"))  # as the server does by itself a minute later
    objective = RememberedObjective(QuadraticLoss(Mixture.uniform(NAMES), [1.0] * len(NAMES)), opened.evaluations)
    search = Search(objective, CappedSimplex.of(NAMES), STRATEGIES["random"], trials)
    moments: list[tuple[float, float]] = []

    def watch(counts: Counts, best: float) -> None:
        moments.append((time.perf_counter() * 1e3, clock.wall * 1e3))

    with opened.optuna.worked_with():
        advance(study, search, count_trials(study).merges + WARM_UP + MERGES, crew=DatabaseCrew(opened), watch=watch)
    pairs = list(pairwise(moments))[WARM_UP:-1]
    return [(later[0] - now[0], later[1] - now[1]) for now, later in pairs]


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    clock = Clock()
    clock.put_around(_CachedStorage, *(name for name in vars(_CachedStorage) if not name.startswith("_")))
    clock.put_around(StudyStorage, "get_all_trials", "look")
    clock.put_around(EvaluationStore, "find", "keep")
    clock.put_around(Leases, "take", "give_back", "held_by_others")
    clock.put_around(TrialStorage, "send")
    clock.put_around(Connection, "execute", "commit", "close")
    with open_database(parse(sys.argv[1], "ADDRESS"), timeout_seconds=60) as database:
        merges, dealings = zip(*measure(database, int(sys.argv[2]), clock), strict=True)
        for name, figures in (("a merge but for its evaluation", merges), ("of it the database", dealings)):
            low, middle, high = min(figures), statistics.median(figures), max(figures)
            print(f"{sys.argv[2]} trials, {name}: median {middle:.1f} ms ({low:.1f} to {high:.1f})")
