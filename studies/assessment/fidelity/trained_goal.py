"""The study's goal of a model really trained, and what is known of it before anything is trained for a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count

import numpy as np

from objectives.agreement.statistics import NoiseFloor
from objectives.evaluation import Evaluation
from objectives.losses.merged_loss import make_room
from objectives.losses.trained_loss import TrainedLoss
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from search.space import CappedSimplex
from studies.assessment.fidelity.readings import Instruments
from studies.assessment.fidelity.truths import TruthPlan


class TrainedGoal:
    """The value of a model trained on a mixture by the members' recipe, on the search split, as an `Objective`.

    All held-out domains of both splits are read at once, so that `fidelity`, `predict` and `report` know the truth too.
    `place` says which of the trainings a mixture's is, as in `2 of 6`.
    """

    gradient = challenge = foundation = None

    def __init__(self, instruments: Instruments, place: Callable[[Mixture], str] = lambda mixture: "1 of 1") -> None:
        self._instruments = instruments
        self._place = place
        self._recipe = instruments.pool.config.recipe
        self._truths = {split: instruments.truth(split, self._recipe) for split in SPLITS}
        proxy, goal = instruments.proxy, instruments.goals["search"]
        self.digest = TrainedLoss(
            instruments.pool, proxy.members, goal, "search", precision=proxy.settings.precision
        ).digest

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._instruments.pool.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Train a mixture, unless its model is there, and read it."""
        return self.readings(mixture)["search"]

    def readings(self, mixture: Mixture) -> Mapping[Split, Evaluation]:
        """Read a mixture on both splits; train it first where it has to be. Raises `PoolError`."""
        asked = mixture.over(self.partitions)
        if any(truth.recall(asked) is None for truth in self._truths.values()):
            from pool.building.job import train_beside  # loads torch

            run = self.run(asked)
            if not self.is_known(asked):
                make_room(self._instruments.proxy.members)
            train_beside(self._instruments.pool, run, shown=f"training {self._place(mixture)}: {run.called}")
        return {split: self._valued(self._truths[split](asked), split) for split in SPLITS}

    def run(self, mixture: Mixture) -> TruthRun:
        return TruthRun(mixture.over(self.partitions), self._recipe)

    def is_known(self, mixture: Mixture) -> bool:
        """Tell whether a mixture can be read without training."""
        from pool.building.job import is_trained  # loads torch

        return is_trained(self._instruments.pool, self.run(mixture))

    def known(self, space: CappedSimplex, others: tuple[str, ...] = ()) -> list[Mixture]:
        """List the feasible mixtures of two partitions or more that are trained, by the evaluations of truths.

        others: digests of further objectives of trained models.
        """
        store = self._instruments.store
        found = [one.mixture for digest in (self._truths["search"].digest, *others) for one in store.all_of(digest)]
        every = {one.digest: one for one in (mixture.over(space.names) for mixture in found)}
        feasible = [one for one in every.values() if len(one.support) > 1 and space.contains(one)]
        return [one for one in feasible if self.is_known(one)]

    def _valued(self, evaluation: Evaluation, split: Split) -> Evaluation:
        goal = self._instruments.goals[split]
        return replace(
            evaluation,
            value=goal.value(evaluation.domains),
            values=goal.values(evaluation.domains),
            violation=max([0.0, *goal.violations(evaluation.domains).values()]),
            standard_error=goal.standard_error(evaluation.domains),
            objective_digest=self.digest,
        )


def known_noise(instruments: Instruments) -> float | None:
    """Return the deviation of a truth trained again in another order of the data; None where none was."""
    pool, goal = instruments.pool, instruments.goals["search"]
    orders: list[dict[str, float]] = []
    for order in count(0):
        recipe = TruthPlan().recipe(pool, Mixture.uniform(pool.names), order)
        found = instruments.store.all_of(instruments.truth("search", recipe).digest)
        if order and not found:
            break
        orders.append({one.mixture.digest: goal.value(one.domains) for one in found if len(one.mixture.support) > 1})
    repeated = sorted(set[str]().union(*orders[1:]))
    floor = NoiseFloor.of([np.array([one[key] for one in orders if key in one]) for key in repeated])
    return floor.deviation if floor else None
