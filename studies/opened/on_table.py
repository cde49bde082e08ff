"""A study on a swarm, opened and checked: its trained runs, and a predictor fitted to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable, read_swarms, say_notes
from objectives.stand_ins.tabulated_loss import FittedSwarm, Predictor, TabulatedLoss
from pool.corpus.corpus import SPLITS
from pool.errors import ConfigError
from pool.progress import say
from search.surrogates.automatic import FAMILIES, AutomaticSurrogate
from search.surrogates.surrogate import ConformalSurrogate, Observations
from studies.database.address import address_of
from studies.database.remembered import RememberedObjective
from studies.opened.goal import basis_of, goal_on_table
from studies.opened.identity import Identity, common_parts
from studies.opened.opened_study import OpenedStudy, checked_space, study_database
from studies.study_file.study_file import StudyFile

COVERAGE = 0.9
"""Coverage of the intervals."""
METHOD = f"automatic ({', '.join(FAMILIES)}), conformal {COVERAGE}"
"""The predictor, as digests name it."""
LEAST_RUNS = 8
"""Fewer trained models are too few to choose a family and to calibrate."""


@dataclass(frozen=True, kw_only=True)
class SwarmBench(OpenedStudy):
    """An opened study file on a swarm; `unseen` runs, if any, are kept out of every fit."""

    swarm: FittedSwarm
    unseen: SwarmTable | None

    @property
    def identity(self) -> Identity:
        swarm = {"table": self.swarm.table.digest, "predictor": self.swarm.method}
        return {**swarm, **common_parts(self.config, self.space)}


@contextmanager
def swarm_bench(config: StudyFile, *, must_exist: bool = False) -> Iterator[SwarmBench]:
    """Open and check a study file on a swarm; with `must_exist`, make no database.

    Nothing is fitted before the first prediction. Raises a `MixscoutError` of the thing at fault.
    """
    assert config.table is not None and config.database is not None, "read_study_file sees to both"
    table, unseen = read_swarms(config.table, normalise=config.normalise)
    if len(table.runs) < LEAST_RUNS:
        raise ConfigError(f"{config.table}: {len(table.runs)} runs are too few to predict from; give {LEAST_RUNS}")
    basis = basis_of(config.table, table)
    goal = goal_on_table(config, basis, table)
    space = checked_space(config, basis)
    say_notes(table, unseen)
    address = address_of(config.database, basis.root / "mixscout.db")
    with study_database(config, address, must_exist=must_exist) as database:
        watch, maximised = partial(_say, table), goal.maximised
        swarm = FittedSwarm(table, fit_predictor, method=METHOD, maximised=maximised, watch=watch)
        yield SwarmBench(
            config=config,
            basis=basis,
            space=space,
            goals=dict.fromkeys(SPLITS, goal),
            database=database,
            objective=RememberedObjective(TabulatedLoss(swarm, goal), database.evaluations),
            swarm=swarm,
            unseen=unseen,
        )


def fit_predictor(weights: Floats, values: Floats) -> Predictor:
    """Fit the automatic surrogate to mixtures (N, K) and values (N,), calibrated on its out-of-fold errors."""
    surrogate = ConformalSurrogate(AutomaticSurrogate(), coverage=COVERAGE)
    surrogate.fit(Observations.of_values(weights, values))
    return surrogate


def _say(table: SwarmTable, metric: str) -> None:
    say(f"fitting {metric} to {len(table.runs)} trained models")
