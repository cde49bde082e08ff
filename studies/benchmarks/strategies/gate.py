"""The verb `bench gate`: what the gate saves and what it costs, on formulas with a known optimum.

Every strategy searches with the gate and without, from the same start and seed. Three questions: is it worse anywhere
at equal merges; with how many merges does it reach what the ungated search has at the end; and are its promises kept
(false prunes of all proposals, since a formula can be asked about every one of them; coverage of its intervals).
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

from objectives.stand_ins.analytic import AnalyticLoss, one_percent_regret, regret
from pool.mixture import Mixture
from pool.progress import track
from search.gate import Gate, GateRule
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import completed_trials, finished_trials, interval_errors, value_of
from studies.benchmarks.strategies.regret import Case, Entry
from studies.terminal import quiet_libraries

EVEN_PERCENT = 0.01
"""Regrets no further apart are the same: where both found the optimum, how many zeros follow says nothing."""


@dataclass(frozen=True)
class Pair:
    """One seed with the gate and without.

    Regrets at equal merges, the gated search's last, in percent of the uniform mixture's. `merges_to_ungated` is after
    how many merges the gated search had what the ungated one has at the end; infinite where never. `false_prunes` of
    `pruned` proposals would have beaten the incumbent of their time. `covered` of `predicted` evaluations the gate had
    predicted, audits and forced ones included, were inside its 90 % interval.
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
    """A strategy on a case over the seeds."""

    case: Case
    entry: Entry
    pairs: tuple[Pair, ...]

    @property
    def gained_percent(self) -> tuple[float, float, float]:
        """By how much less the gated search regrets at equal merges: median, least and greatest over the seeds."""
        gains = [pair.ungated_percent - pair.gated_percent for pair in self.pairs]
        return float(np.median(gains)), min(gains), max(gains)

    @property
    def merges_to_ungated(self) -> float:
        """Median over the seeds."""
        return float(np.median([pair.merges_to_ungated for pair in self.pairs]))

    @property
    def false_prune_rate(self) -> float:
        """Over all pruned proposals of all seeds; NaN where none was pruned."""
        pruned = sum(pair.pruned for pair in self.pairs)
        return sum(pair.false_prunes for pair in self.pairs) / pruned if pruned else math.nan

    @property
    def coverage(self) -> float:
        """Share of predicted evaluations inside their 90 % interval, over all seeds; NaN where none was predicted."""
        predicted = sum(pair.predicted for pair in self.pairs)
        return sum(pair.covered for pair in self.pairs) / predicted if predicted else math.nan

    def as_json(self) -> dict[str, object]:
        """Give what `--json` prints of it; what is not finite is null."""
        figures = {
            "merges_to_ungated": self.merges_to_ungated,
            "false_prune_rate": self.false_prune_rate,
            "coverage": self.coverage,
        }
        median, least, most = self.gained_percent
        return {
            **asdict(self.case),
            "case": self.case.name,
            "strategy": self.entry.strategy,
            "merges": self.entry.merges,
            "seeds": len(self.pairs),
            "gained_percent": {"median": median, "min": least, "max": most},
            **{name: figure if math.isfinite(figure) else None for name, figure in figures.items()},
            "pairs": [asdict(pair) for pair in self.pairs],
        }


@dataclass(frozen=True)
class GatePlan:
    """How often every search is made, by which rule, and after how many merges the gated ones end (None: as others)."""

    seeds: int
    rule: GateRule = field(default_factory=GateRule)
    gated_merges: int | None = None


def run_gate(cases: Sequence[Case], entries: Sequence[Entry], plan: GatePlan, *, jobs: int) -> list[GateResult]:
    """Run every entry on every case, once a seed, in `jobs` processes."""
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
    """Search once with the gate and once without; in one thread, so that the last digits are the same everywhere."""
    quiet_libraries()
    with threadpool_limits(1):
        return _paired(case, entry, seed, plan)


def _paired(case: Case, entry: Entry, seed: int, plan: GatePlan) -> Pair:
    objective = case.make(seed)
    fewer = replace(entry, merges=min(plan.gated_merges or entry.merges, entry.merges))
    gated = _searched(objective, fewer, seed, Gate(plan.rule, seed=seed))
    ungated = _courses(_searched(objective, entry, seed, None), objective)
    course = _courses(gated, objective)
    return Pair(course[-1], ungated[fewer.merges], _reaches(course, ungated[-1]), *_judged(gated, objective))


def _searched(objective: AnalyticLoss, entry: Entry, seed: int, gate: Gate | None) -> optuna.Study:
    study = optuna.create_study()
    space = CappedSimplex.of(objective.partitions)
    start = {"uniform": Mixture.uniform(objective.partitions)}
    advance(study, Search(objective, space, STRATEGIES[entry.strategy], seed, gate, start), entry.merges)
    return study


def _courses(study: optuna.Study, objective: AnalyticLoss) -> list[float]:
    """Return the incumbent's regret in percent after every merge; the incumbent has the lowest (noisy) value."""
    space, unit = CappedSimplex.of(objective.partitions), one_percent_regret(objective)
    lowest, percents = math.inf, [100.0]
    for trial in completed_trials(study):
        found = value_of(trial) < lowest
        percents.append(regret(objective, space.mixture_of(trial)) / unit if found else percents[-1])
        lowest = min(lowest, value_of(trial))
    return percents


def _reaches(percents: Sequence[float], wanted: float) -> float:
    reached = (float(merges) for merges, percent in enumerate(percents) if percent <= wanted + EVEN_PERCENT)
    return next(reached, math.inf)


def _judged(study: optuna.Study, objective: AnalyticLoss) -> tuple[int, int, int, int]:
    """Count pruned, falsely pruned, predicted and covered trials, by asking the formula about each."""
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
