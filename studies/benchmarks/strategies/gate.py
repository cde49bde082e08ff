"""The verb `bench gate`: savings and cost of the gate, on formulas with a known optimum.

Every strategy searches with and without the gate, from one start and seed. The formula judges every pruned proposal.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product

import numpy as np
import optuna
from joblib import Parallel, delayed
from optuna.trial import TrialState
from threadpoolctl import threadpool_limits

from objectives.stand_ins.analytic import AnalyticLoss
from pool.progress import track
from search.gate import Gate, GateRule
from search.space import CappedSimplex
from search.trials import completed_trials, finished_trials, interval_errors, value_of
from studies.benchmarks.strategies.regret import Case, Entry, course_of, searched
from studies.terminal import quiet_libraries

EVEN_PERCENT = 0.01
"""Regrets this close are equal: both searches found the optimum."""


@dataclass(frozen=True)
class Pair:
    """One seed with and without the gate.

    gated_percent, ungated_percent: regret at the gated search's last merge, in percent of the uniform mixture's.
    merges_to_ungated: merges of the gated search to the final regret of the ungated search; infinite if never.
    pruned: pruned proposals.
    false_prunes: pruned proposals better than the incumbent of their time.
    predicted: evaluations with a prediction of the gate, audits and forced evaluations included.
    covered: predicted evaluations inside their 90 % interval.
    """

    gated_percent: float
    ungated_percent: float
    merges_to_ungated: float
    pruned: int
    false_prunes: int
    predicted: int
    covered: int


@dataclass(frozen=True)
class GateResult:
    """A strategy on a case: one pair for each seed."""

    case: Case
    entry: Entry
    pairs: tuple[Pair, ...]

    @property
    def gained_percent(self) -> tuple[float, float, float]:
        """Regret saved by the gate at equal merges: median, least and greatest over the seeds."""
        gains = [pair.ungated_percent - pair.gated_percent for pair in self.pairs]
        return float(np.median(gains)), min(gains), max(gains)

    @property
    def merges_to_ungated(self) -> float:
        return float(np.median([pair.merges_to_ungated for pair in self.pairs]))

    @property
    def false_prune_rate(self) -> float:
        """False prunes over all prunes; NaN without prunes."""
        pruned = sum(pair.pruned for pair in self.pairs)
        return sum(pair.false_prunes for pair in self.pairs) / pruned if pruned else math.nan

    @property
    def coverage(self) -> float:
        """Covered over predicted evaluations; NaN without predictions."""
        predicted = sum(pair.predicted for pair in self.pairs)
        return sum(pair.covered for pair in self.pairs) / predicted if predicted else math.nan

    def as_json(self) -> dict[str, object]:
        median, least, most = self.gained_percent
        return {
            **asdict(self.case),
            "case": self.case.name,
            "strategy": self.entry.strategy,
            "merges": self.entry.merges,
            "seeds": len(self.pairs),
            "gained_percent": {"median": median, "min": least, "max": most},
            "merges_to_ungated": self.merges_to_ungated,
            "false_prune_rate": self.false_prune_rate,
            "coverage": self.coverage,
            "pairs": [asdict(pair) for pair in self.pairs],
        }


@dataclass(frozen=True)
class GatePlan:
    """Seeds, rule of the gate, and merges of gated searches (None: as many as ungated ones)."""

    seeds: int
    rule: GateRule = field(default_factory=GateRule)
    gated_merges: int | None = None


def run_gate(cases: Sequence[Case], entries: Sequence[Entry], plan: GatePlan, *, jobs: int) -> list[GateResult]:
    work = list(product(cases, entries))
    tasks = (delayed(run_pair)(case, entry, seed, plan) for case, entry in work for seed in range(plan.seeds))
    pairs = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    results = []
    with track("gate", len(work)) as show:
        for case, entry in work:
            results.append(GateResult(case, entry, tuple(next(pairs) for _ in range(plan.seeds))))
            show(len(results), f"{case.name}, {entry.strategy}: {results[-1].merges_to_ungated:g} merges")
    return results


def run_pair(case: Case, entry: Entry, seed: int, plan: GatePlan) -> Pair:
    """Search once with and once without the gate, in one thread, for equal last digits everywhere."""
    quiet_libraries()
    with threadpool_limits(1):
        objective = case.make(seed)
        fewer = replace(entry, merges=min(plan.gated_merges or entry.merges, entry.merges))
        gated = searched(objective, fewer, seed, Gate(plan.rule, seed=seed))
        ungated = _percents(searched(objective, entry, seed, None), objective)
        percents = _percents(gated, objective)
        return Pair(percents[-1], ungated[fewer.merges], _reaches(percents, ungated[-1]), *_judged(gated, objective))


def _percents(study: optuna.Study, objective: AnalyticLoss) -> list[float]:
    return [100.0, *course_of(study, objective).regret_percent]


def _reaches(percents: Sequence[float], wanted: float) -> float:
    reached = (float(merges) for merges, percent in enumerate(percents) if percent <= wanted + EVEN_PERCENT)
    return next(reached, math.inf)


def _judged(study: optuna.Study, objective: AnalyticLoss) -> tuple[int, int, int, int]:
    space, incumbent = CappedSimplex.of(objective.partitions), math.inf
    pruned = false = 0
    for trial in finished_trials(study):
        if trial.state is TrialState.PRUNED:
            pruned += 1
            false += objective(space.mixture_of(trial)).value < incumbent
            continue
        incumbent = min(incumbent, value_of(trial))
    held = [errors[0] <= 1 for errors in interval_errors(completed_trials(study))]
    return pruned, false, len(held), sum(held)
