"""The figures of answers: scores, differences, Pareto fronts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import optuna

from objectives.aggregates import Aggregate
from objectives.evaluation import Evaluation
from objectives.held_out import Floats, HeldOutLoss, perplexity_of
from objectives.scoring.paired import PairedDifference, paired_difference
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal, Measure
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from pool.tokens.held_out import HeldOutWindows
from search.space import CappedSimplex
from search.trials import signed, signs_of

if TYPE_CHECKING:
    from studies.opened.on_pool import Workbench

Json = dict[str, object]
_FIGURES = ("loss_nats", "standard_error", "perplexity", "bits_per_byte", "word_perplexity", "byte_perplexity")
_COUNTS = ("tokens", "bytes", "words", "documents")


@dataclass(frozen=True)
class Score:
    """The nats (W,) of one model on a table's windows."""

    goal: Goal
    table: WindowTable
    nats: Floats

    @cached_property
    def domains(self) -> Mapping[str, HeldOutLoss]:
        return self.table.losses(self.nats)

    @property
    def value(self) -> float:
        """The scalar minimised, with penalties."""
        return self.goal.value(self.domains)

    @property
    def loss_nats(self) -> float:
        return self.goal.loss_nats(self.domains)

    @property
    def violations(self) -> Mapping[str, float]:
        """How far each constrained domain is above its ceiling; negative below."""
        return self.goal.violations(self.domains)

    def behind(self, best: Score) -> PairedDifference:
        return paired_difference(self.goal, self.table, self.nats, best.nats)

    def as_json(self) -> Json:
        return {
            "value": self.value,
            "measure": self.goal.measure,
            "standard_error": self.goal.standard_error(self.domains),
            "loss_nats": self.loss_nats,
            "perplexity": perplexity_of(self.loss_nats),
            "bits_per_byte": self.goal.bits_per_byte(self.domains),
            "violations": dict(self.violations),
            "micro": _domain_json(reduce(add, self.domains.values())),
            "macro": self._unweighted_json("macro"),
            "worst": self._unweighted_json("worst"),
            "domains": {name: _domain_json(loss) for name, loss in self.domains.items()},
        }

    def _unweighted_json(self, aggregate: Aggregate) -> Json:
        over = Goal.over(tuple(self.domains), aggregate)
        loss_nats, bits = over.loss_nats(self.domains), over.bits_per_byte(self.domains)
        return {"loss_nats": loss_nats, "perplexity": perplexity_of(loss_nats), "bits_per_byte": bits}


def paired_by_domain(
    windows: Mapping[str, HeldOutWindows], measure: Measure, first: Mapping[str, Floats], second: Mapping[str, Floats]
) -> dict[str, PairedDifference]:
    """Compare the nats of two models domain by domain, in a measure: the first's loss minus the second's."""
    found = {}
    for name in first:
        goal, table = Goal.over((name,), "macro", measure=measure), WindowTable.of(windows, (name,))
        found[name] = paired_difference(goal, table, first[name], second[name])
    return found


def score_of(bench: Workbench, evaluation: Evaluation, split: Split) -> Score:
    assert evaluation.windows is not None, "reported mixtures are evaluated in full"
    table = bench.table(split)
    return Score(bench.goals[split], table, table.together(evaluation.windows))


@dataclass(frozen=True)
class PairedOrders:
    """Two ways of training, each with the same orders of the data: their losses by order."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Mean over orders of the first loss less the second."""
        return float(np.subtract(self.first, self.second).mean())

    @property
    def margin(self) -> float:
        """Half the interval of the difference at 95 %, by Student's t over the orders."""
        from scipy.special import stdtrit  # loads slowly

        count, spread = len(self.first), float(np.subtract(self.first, self.second).std(ddof=1))
        return float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)

    @property
    def told_apart(self) -> bool:
        return abs(self.difference) > self.margin

    def __str__(self) -> str:
        doubt = "" if self.told_apart else ": can't be told apart"
        return f"{self.difference:+.4f} ± {self.margin:.4f}{doubt}"


@dataclass(frozen=True)
class FrontPoint:
    """A mixture on the Pareto front; `test` is empty for predictions."""

    mixture: Mixture
    by_objective: Mapping[str, float]
    test: Mapping[str, float] = field(default_factory=dict)


def pareto_front(study: optuna.Study, space: CappedSimplex, objectives: Sequence[str]) -> list[FrontPoint]:
    """List the mixtures unbeaten in every objective, best in the first come first; none for a single objective."""
    if not objectives:
        return []
    points = [
        FrontPoint(space.mixture_of(trial), dict(zip(objectives, trial.values, strict=True)))
        for trial in study.best_trials
    ]
    signs = signs_of(study)
    return sorted(points, key=lambda point: signed(signs, list(point.by_objective.values())))


def which_is_better(goal: Goal) -> str:
    """Say whether higher or lower values are better; of targets of both directions, of each."""
    if not goal.two_ways:
        return "higher is better" if goal.maximised else "lower is better"
    lower = ", ".join(name for name, target in goal.targets.items() if target.direction == "minimise")
    return f"higher is better for {negated_in(goal)}, lower for {lower}"


def negated_in(goal: Goal) -> str:
    """Name the targets negated in the mean of all: those maximised beside minimised ones; else none."""
    return ", ".join(name for name, one in goal.targets.items() if goal.two_ways and one.direction == "maximise")


def directions_json(goal: Goal) -> str | dict[str, str]:
    """Return the direction of a goal, or of each of its targets."""
    several = {name: str(target.direction) for name, target in goal.targets.items()}
    return several if len(several) > 1 else goal.direction


def rank_correlation(some: Sequence[float], others: Sequence[float]) -> float | None:
    """Return Spearman's correlation; None where constant or not finite."""
    if len(set(some)) < 2 or len(set(others)) < 2:
        return None
    from scipy.stats import spearmanr  # takes a second

    correlation = float(spearmanr(some, others).statistic)
    return correlation if math.isfinite(correlation) else None


def paired_json(paired: PairedDifference) -> Json:
    return {
        "difference": paired.difference,
        "standard_error": paired.standard_error,
        "told_apart": paired.told_apart,
    }


def _domain_json(loss: HeldOutLoss) -> Json:
    return {name: getattr(loss, name) for name in (*_FIGURES, *_COUNTS)}
