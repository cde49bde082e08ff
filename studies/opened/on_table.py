"""A study on a swarm, opened and checked: its trained runs, and a predictor fitted to them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from objectives.held_out import Floats
from objectives.stand_ins.diverged import Diverged
from objectives.stand_ins.scaled_swarm import ScaledSwarm
from objectives.stand_ins.swarm_table import SwarmTable, say_notes
from objectives.stand_ins.tabulated_loss import FittedSwarm, Predictor, Swarm, TabulatedLoss
from objectives.target import Goal
from pool.corpus.corpus import SPLITS
from pool.progress import say
from search.surrogates.automatic import FAMILIES, AutomaticSurrogate
from search.surrogates.surrogate import ConformalSurrogate, Observations
from studies.database.address import DATABASE_FILE, address_of
from studies.database.remembered import RememberedObjective
from studies.opened.goal import basis_of, goal_on_table
from studies.opened.identity import Identity, common_parts
from studies.opened.opened_study import OpenedStudy, checked_space, study_database
from studies.opened.runs import LearntRuns, learnt_at_scales, read_tables
from studies.study_file.study_file import StudyFile, naming_file

COVERAGE = 0.9
"""Coverage of the intervals."""
METHOD = f"automatic ({', '.join(FAMILIES)}), conformal {COVERAGE}"
"""The predictor, as digests name it."""


@dataclass(frozen=True, kw_only=True)
class SwarmBench(OpenedStudy):
    """An opened study file on a swarm.

    unseen: runs kept out of every fit, if any
    diverged: runs left out, for they lie far outside
    """

    swarm: Swarm
    unseen: SwarmTable | None
    diverged: Sequence[Diverged] = ()

    @property
    def identity(self) -> Identity:
        swarm: Identity = {"table": self.swarm.table.digest, "predictor": self.swarm.method}
        if isinstance(self.swarm, ScaledSwarm):
            others = {name: one.table.digest for name, one in self.swarm.others.items()}
            swarm["scales"] = {"target": self.swarm.target, **others}
        return {**swarm, **common_parts(self.config, self.space)}


@contextmanager
def swarm_bench(
    config: StudyFile, *, must_exist: bool = False, writes: bool = False, private: Path | None = None
) -> Iterator[SwarmBench]:
    """Open and check a study file on a swarm; with `must_exist`, make no database; with `writes`, it must be writable.

    With `private`, the study is worked at in that folder, and forgotten. Nothing is fitted before the first prediction.
    Raises a `MixscoutError` of the thing at fault.
    """
    assert config.table is not None and config.database is not None, "read_study_file sees to both"
    tables = read_tables(config)
    basis = basis_of(config.table, tables.target)
    with naming_file(config):
        goal = goal_on_table(config, basis, tables.target)
    learnt = learnt_at_scales(config, tables, goal)
    swarm = _swarm_of(config, learnt, goal)
    basis = replace(basis, seen=dict(zip(basis.names, swarm.places.max(axis=0).tolist(), strict=True)))
    with naming_file(config):
        space = checked_space(config, basis)
    say_notes(tables.target, *tables.others.values(), tables.unseen)
    for note in learnt.notes:
        say(note)
    for one in learnt.diverged:
        say(f"{one}: far outside, so the run is left out; keep_diverged in the study file keeps it")
    address = address_of(config.database, basis.root / DATABASE_FILE)
    with study_database(config, address, must_exist=must_exist, writes=writes, private=private) as database:
        yield SwarmBench(
            config=config,
            basis=basis,
            space=space,
            goals=dict.fromkeys(SPLITS, goal),
            database=database,
            objective=RememberedObjective(TabulatedLoss(swarm, goal), database.evaluations),
            swarm=swarm,
            unseen=learnt.unseen,
            diverged=learnt.diverged,
        )


def _swarm_of(config: StudyFile, learnt: LearntRuns, goal: Goal) -> Swarm:
    def fitted(table: SwarmTable, scale: str = "") -> FittedSwarm:
        watch = partial(_say, table, scale)
        return FittedSwarm(table, fit_predictor, method=METHOD, maximised=goal.maximised, watch=watch)

    if config.scales is None:
        return fitted(learnt.table)
    others = {name: fitted(table, name) for name, table in learnt.others.items()}
    return ScaledSwarm(config.scales.target, learnt.table, others, goal.domains, coverage=COVERAGE)


def fit_predictor(weights: Floats, values: Floats) -> Predictor:
    """Fit the automatic surrogate to mixtures (N, K) and values (N,), calibrated on its out-of-fold errors."""
    surrogate = ConformalSurrogate(AutomaticSurrogate(), coverage=COVERAGE)
    surrogate.fit(Observations.of_values(weights, values))
    return surrogate


def _say(table: SwarmTable, scale: str, metric: str) -> None:
    say(f"fitting {metric} to {len(table.runs)} trained models{f' at scale {scale}' if scale else ''}")
