"""Losses of merges on one split, in every held-out domain, from remembered evaluations.

The goal's domains come from the study's own objective, so the search's merges serve again. Other domains come from a
second objective under its own digest. Asked again, nothing is merged.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.scoring.paired import PairedDifference, paired_difference
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench

Model = Mixture | None
"""A merge by its mixture, or the seed checkpoint for None."""


class DomainEvidence:
    """Scores of merges and of the seed on the windows (W,) of one split, by column.

    The C = 1 + E columns are the minimised goal and every domain's loss in the goal's measure, the goal's domains
    first; with `everywhere`, all of the pool's domains. `merged` counts the mixtures merged anew.
    """

    def __init__(self, bench: Workbench, split: Split, *, everywhere: bool = True) -> None:
        windows = bench.proxy.pool.corpus.held_out[split]
        self.goal = bench.goals[split]
        self.split = split
        others = tuple(name for name in windows if name not in self.goal.domains) if everywhere else ()
        self.domains = (*self.goal.domains, *others)
        self.table = WindowTable.of(windows, self.domains)
        self.merged = 0
        self._proxy = bench.proxy
        self._store = bench.database.evaluations
        self._objectives: list[RememberedObjective] = [bench.losses[split]]
        if others:
            self._objectives.append(_elsewhere(bench, others, split))
        self._nats: dict[str, Floats] = {}
        self._mixtures: dict[str, Mixture] = {}

    @property
    def mixtures(self) -> Sequence[Mixture]:
        return list(self._mixtures.values())

    def is_known(self, model: Model, *, steep: bool = False) -> bool:
        """Tell whether a merge is remembered, with `steep` its gradient too; the seed is scored in any case."""
        found = [] if model is None else [objective.recall(model) for objective in self._objectives]
        return all(one is not None and (one.gradient is not None or not steep) for one in found)

    def nats(self, model: Model) -> Floats:
        """Return the nats (W,) of a merge, or of the seed. Raises `NonFiniteLossError`."""
        if model is None:
            return self._seed_nats
        if model.digest not in self._nats:
            evaluations = [objective(model) for objective in self._objectives]
            self.merged += not all(evaluation.cached for evaluation in evaluations)
            by_domain = {name: nats for one in evaluations for name, nats in (one.windows or {}).items()}
            self._nats[model.digest] = self.table.together(by_domain)
            self._mixtures[model.digest] = model
        return self._nats[model.digest]

    def values(self, model: Model) -> Floats:
        """Return the value of every column (C,)."""
        losses = self.table.losses(self.nats(model))
        return np.array([goal.value(losses) for goal in self.goals])

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        """The goal, and each domain alone (C,)."""
        return (self.goal, *(Goal.of({name: 1.0}, measure=self.goal.measure) for name in self.domains))

    def differences(self, first: Model, second: Model) -> list[PairedDifference]:
        """Return the first model minus the second in every column (C), on the same documents."""
        pairs = zip(self.goals, self._tables, strict=True)
        nats = [self.table.by_domain(self.nats(model)) for model in (first, second)]
        return [paired_difference(goal, table, *(table.together(one) for one in nats)) for goal, table in pairs]

    def slopes(self, mixture: Mixture) -> Floats | None:
        """Return d column / d weight (C, K) in the mixture's order; None without a gradient."""
        rows: dict[str, Sequence[float]] = {}
        goal_row: Sequence[float] = ()
        for number, objective in enumerate(self._objectives):
            if objective.gradient is None:
                return None
            evaluation = objective.gradient(mixture)
            assert evaluation.gradient is not None and evaluation.jacobian is not None
            goal_row = goal_row if number else evaluation.gradient
            rows.update(evaluation.jacobian)
        return np.array([goal_row, *(rows[name] for name in self.domains)])

    def goal_slopes(self, mixture: Mixture) -> Floats | None:
        """Return d goal / d weight (K,), scoring only the goal's domains; None without a gradient."""
        objective = self._objectives[0]
        if objective.gradient is None:
            return None
        evaluation = objective.gradient(mixture)
        return np.array(evaluation.gradient)

    @cached_property
    def _tables(self) -> tuple[WindowTable, ...]:
        windows = self._proxy.pool.corpus.held_out[self.split]
        return tuple(WindowTable.of(windows, goal.domains) for goal in self.goals)

    @cached_property
    def _seed_nats(self) -> Floats:
        return self._proxy.seed_nats(self.table, self.split, self._store)


def _elsewhere(bench: Workbench, domains: Sequence[str], split: Split) -> RememberedObjective:
    target = Goal.over(domains, "macro", measure=bench.goals[split].measure)
    return RememberedObjective(bench.proxy.loss(target, split), bench.database.evaluations)


def merged_evaluation(
    mixture: Mixture, goal: Goal, table: WindowTable, nats: Floats, *, digest: str, started: float
) -> Evaluation:
    """Evaluate a goal from the nats (W,) of a merge, begun at `started` by `time.perf_counter`."""
    losses = table.losses(nats)
    return Evaluation(
        mixture,
        value=goal.value(losses),
        values=goal.values(losses),
        standard_error=goal.standard_error(losses),
        domains=losses,
        kind="merged",
        objective_digest=digest,
        seconds=time.perf_counter() - started,
        tokens_read=int(table.tokens.sum()),
        windows=table.by_domain(nats),
    )
