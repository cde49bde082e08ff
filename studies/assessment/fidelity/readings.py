"""Read the study's value and every held-out domain off merges and trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.losses.trained_loss import TrainedLoss
from objectives.merging.rules import MergeRule
from objectives.target import Goal, measures_of
from pool.config.recipe import Recipe
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.opened.proxy import Proxy
from studies.study_file.study_file import StudyFile

VALUE = "(value)"
"""The study's value among the names of readings; no domain has this name."""

Readings = Mapping[str, Floats]
"""Numbers (N,) of N mixtures in one measure, by name: the study's value first, then the domains."""


@dataclass(frozen=True)
class Instruments:
    """Reads all held-out domains at once, and remembers the evaluations; `goals` are the study's own."""

    study: StudyFile
    proxy: Proxy
    goals: Mapping[Split, Goal]
    store: EvaluationStore

    @classmethod
    def of(cls, bench: Workbench) -> Instruments:
        return cls(bench.config, bench.proxy, bench.goals, bench.database.evaluations)

    @property
    def pool(self) -> Pool:
        return self.proxy.pool

    @property
    def target(self) -> Goal:
        """The goal's domains, and others with text on both splits."""
        held_out, goal = self.pool.corpus.held_out, self.goals["search"]
        scored = [name for name in held_out["search"] if all(held_out[split][name].tokens for split in SPLITS)]
        return Goal.over(tuple(dict.fromkeys([*goal.domains, *scored])), "macro", measure=goal.measure)

    @property
    def rule(self) -> MergeRule:
        """The study's own."""
        return self.proxy.settings.rule

    def proxy_loss(self, split: Split, rule: MergeRule | None = None) -> RememberedObjective:
        """Loss of the merge, by the study's rule unless another is given."""
        settings = replace(self.proxy.settings, rule=rule or self.rule)
        return RememberedObjective(self.proxy.loss(self.target, split, settings), self.store)

    def truth(self, split: Split, recipe: Recipe) -> RememberedObjective:
        """Loss of the trained model."""
        members, precision = self.proxy.members, self.proxy.settings.precision
        trained = TrainedLoss(self.pool, members, self.target, split, precision=precision, recipe=recipe)
        return RememberedObjective(trained, self.store)

    def merged(self, split: Split, mixtures: Sequence[Mixture], rules: Mapping[str, MergeRule]) -> dict[str, Readings]:
        """Merge mixtures by each of the rules."""
        found, done = {}, 0
        with track(f"merges, {split} split", len(rules) * len(mixtures)) as show:
            for name, rule in rules.items():
                objective, evaluations = self.proxy_loss(split, rule), []
                for mixture in mixtures:
                    evaluations.append(objective(mixture))
                    show(done := done + 1, name)
                found[name] = self.read(split, evaluations)
        return found

    def read(self, split: Split, evaluations: Sequence[Evaluation]) -> Readings:
        """Turn N evaluations into readings."""
        goal, target = self.goals[split], self.target
        rows = np.array([measures_of(one.domains, target.domains, target.measure) for one in evaluations])
        values = np.array([goal.value(one.domains) for one in evaluations])
        return {VALUE: values, **dict(zip(target.domains, rows.T, strict=True))}
