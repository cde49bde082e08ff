"""What is read off a mixture's merge and off its trained model: the study's value, and every held-out domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from objectives.evaluation import Evaluation, Objective
from objectives.held_out import Floats
from objectives.merged_loss import MergedLoss
from objectives.merging.rules import MergeRule
from objectives.target.target import Goal, measures_of
from objectives.trained_loss import TrainedLoss
from pool.config.recipe import Recipe
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from pool.progress import track
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench

VALUE = "(value)"
"""The study's value among the names of readings; no domain can be called that."""

Readings = Mapping[str, Floats]
"""By name, the study's value first and then the domains: one number (N,) for each of N mixtures, in one measure."""


@dataclass(frozen=True)
class Instruments:
    """The objectives that give readings: all held-out domains at once, remembered in the study's database."""

    bench: Workbench

    @property
    def target(self) -> Goal:
        """All domains that have something to score on both splits, and those of the goal."""
        held_out = self.bench.pool.corpus.held_out
        scored = [name for name in held_out["search"] if all(held_out[split][name].tokens for split in SPLITS)]
        names = tuple(dict.fromkeys([*self.bench.target.domains, *scored]))
        return Goal.over(names, "macro", measure=self.bench.target.measure)

    def proxy(self, split: Split) -> Objective:
        """Return the merge's losses, by the study's own rule."""
        return self._merged(self.target, split, self.bench.proxy.rule)

    def proxy_value(self, rule: MergeRule) -> Objective:
        """Return the study's value of the merge on the search split, by some rule; nothing else is scored."""
        return self._merged(self.bench.target, "search", rule)

    def truth(self, split: Split, recipe: Recipe) -> Objective:
        """Return the losses of the model really trained by a recipe."""
        bench = self.bench
        trained = TrainedLoss(
            bench.pool, bench.stacked, self.target, split, precision=bench.proxy.precision, recipe=recipe
        )
        return RememberedObjective(trained, bench.database.evaluations)

    def merged(self, split: Split, mixtures: Sequence[Mixture]) -> Readings:
        """Merge N mixtures by the study's own rule, and read them."""
        objective, evaluations = self.proxy(split), []
        with track(f"merges, {split} split", len(mixtures)) as show:
            for mixture in mixtures:
                evaluations.append(objective(mixture))
                show(len(evaluations), "")
        return self.read(split, evaluations)

    def read(self, split: Split, evaluations: Sequence[Evaluation]) -> Readings:
        """Turn evaluations on a split into readings."""
        return read(self.bench.goals[split], self.target, evaluations)

    def _merged(self, target: Goal, split: Split, rule: MergeRule) -> Objective:
        settings = replace(self.bench.proxy, rule=rule)
        merged = MergedLoss(self.bench.pool, self.bench.stacked, target, split, settings=settings)
        return RememberedObjective(merged, self.bench.database.evaluations)


def read(goal: Goal, target: Goal, evaluations: Sequence[Evaluation]) -> Readings:
    """Read a goal's value, and the measure of every domain of `target`, off N evaluations of them."""
    rows = np.array([measures_of(one.domains, target.domains, target.measure) for one in evaluations])
    values = np.array([goal.value(one.domains) for one in evaluations])
    return {VALUE: values, **dict(zip(target.domains, rows.T, strict=True))}
