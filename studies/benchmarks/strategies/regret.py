"""The verb `bench search`: strategies on formulas with a known optimum, regret against merges.

Budgets are in forward-equivalents: a merge with its gradient counts three. Regret is noise-free, of the mixture with
the lowest (noisy) value so far, in percent of the uniform mixture's regret.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import optuna
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from objectives.evaluation import FORWARDS_PER_GRADIENT
from objectives.stand_ins.analytic import AnalyticLoss, one_percent_regret, regret
from objectives.stand_ins.problems import Placement, ProblemKind, available, problem
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import track
from search.gate import Gate
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import GRADIENT, completed_trials, value_of
from studies.terminal import quiet_libraries

REACHED_PERCENT = 1.0


@dataclass(frozen=True)
class Entry:
    strategy: str
    merges: int


def parse_entries(text: str) -> list[Entry]:
    """Read `gradient:10,tpe:100`. Raises `ConfigError` for an unfit part."""
    entries = []
    for part in text.split(","):
        name, _, merges = part.partition(":")
        if name not in STRATEGIES or not merges.isdecimal() or int(merges) < 1:
            raise ConfigError(f"{part!r} is not STRATEGY:MERGES with a strategy of {', '.join(STRATEGIES)}")
        entries.append(Entry(name, int(merges)))
    return entries


def parse_strategies(text: str | None) -> list[str]:
    """Read `auto,tpe`; all strategies for None. Raises `ConfigError` for an unknown name."""
    names = list(STRATEGIES) if text is None else text.split(",")
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise ConfigError(f"--strategies: {unknown[0]!r} is no strategy; there are {', '.join(STRATEGIES)}")
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Case:
    """A problem without its seed; `noise_nats` is the standard deviation of noise on values."""

    kind: ProblemKind
    placement: Placement
    partitions: int
    noise_nats: float

    @property
    def name(self) -> str:
        """A short name such as `scheffe-face-32` or `scheffe-face-32-noise-0.01`."""
        noise = f"-noise-{self.noise_nats:g}" if self.noise_nats else ""
        return f"{self.kind}-{self.placement}-{self.partitions}{noise}"

    def make(self, seed: int) -> AnalyticLoss:
        return problem(self.kind, self.placement, self.partitions, seed=seed, noise_nats=self.noise_nats)


@dataclass(frozen=True)
class RegretCourse:
    """The incumbent's regret after each merge of a search, and the forward-equivalents spent by then."""

    forwards: tuple[int, ...]
    regret_percent: tuple[float, ...]

    @property
    def forwards_to_one_percent(self) -> float:
        """Forward-equivalents after which the regret stays at or below 1 %; infinite if never."""
        above = [at for at, percent in enumerate(self.regret_percent) if percent > REACHED_PERCENT]
        after = above[-1] + 1 if above else 0
        return float(self.forwards[after]) if after < len(self.forwards) else math.inf

    def at(self, forwards: int) -> float:
        """Return the regret after so many forward-equivalents; 100 before the first merge."""
        done = int(np.searchsorted(self.forwards, forwards, side="right"))
        return self.regret_percent[done - 1] if done else 100.0


@dataclass(frozen=True)
class RegretResult:
    """A strategy on a case: one course for each seed."""

    case: Case
    entry: Entry
    courses: tuple[RegretCourse, ...]

    @property
    def forwards_to_one_percent(self) -> float:
        """Median over the seeds, infinite if most never get there."""
        return float(np.median([course.forwards_to_one_percent for course in self.courses]))

    @property
    def reached(self) -> int:
        """The number of seeds that get to 1 %."""
        return sum(math.isfinite(course.forwards_to_one_percent) for course in self.courses)

    @property
    def final_percent(self) -> tuple[float, float, float]:
        """Regret after the last merge: median, least and greatest over the seeds."""
        ends = [course.regret_percent[-1] for course in self.courses]
        return float(np.median(ends)), min(ends), max(ends)

    def as_json(self) -> dict[str, object]:
        median, least, most = self.final_percent
        return {
            **asdict(self.case),
            "case": self.case.name,
            "strategy": self.entry.strategy,
            "merges": self.entry.merges,
            "seeds": len(self.courses),
            "reached": self.reached,
            "forwards_to_one_percent": self.forwards_to_one_percent,
            "final_regret_percent": {"median": median, "min": least, "max": most},
            "courses": [asdict(course) for course in self.courses],
        }


def cases(partitions: Sequence[int], noises: Sequence[float]) -> list[Case]:
    """List every law with its optimum in every possible place, at every size and noise."""
    combined = product(available(), partitions, noises)
    return [Case(kind, placement, size, noise) for (kind, placement), size, noise in combined]


def run_regret(wanted: Sequence[Case], entries: Sequence[Entry], seeds: int, *, jobs: int) -> list[RegretResult]:
    """Run every entry on every case and seed, in `jobs` processes; their number changes no result."""
    work = list(product(wanted, entries))
    tasks = (delayed(run_course)(case, entry, seed) for case, entry in work for seed in range(seeds))
    courses: Iterator[RegretCourse] = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    results = []
    with track("strategies", len(work)) as show:
        for case, entry in work:
            results.append(RegretResult(case, entry, tuple(next(courses) for _ in range(seeds))))
            last = results[-1]
            show(len(results), f"{case.name}, {entry.strategy}: {last.forwards_to_one_percent:g} forwards to 1 %")
    return results


def run_course(case: Case, entry: Entry, seed: int) -> RegretCourse:
    """Search once without a gate, in one thread, for equal last digits everywhere."""
    quiet_libraries()
    with threadpool_limits(1):
        objective = case.make(seed)
        return course_of(searched(objective, entry, seed, None), objective)


def searched(objective: AnalyticLoss, entry: Entry, seed: int, gate: Gate | None) -> optuna.Study:
    study = optuna.create_study()
    start = {"uniform": Mixture.uniform(objective.partitions)}
    space = CappedSimplex.of(objective.partitions)
    advance(study, Search(objective, space, STRATEGIES[entry.strategy], seed, gate, start), entry.merges)
    return study


def course_of(study: optuna.Study, objective: AnalyticLoss) -> RegretCourse:
    """Follow the incumbent, the mixture of the lowest (noisy) value, through a study."""
    space = CappedSimplex.of(objective.partitions)
    unit, spent = one_percent_regret(objective), 0
    lowest, percent = math.inf, math.nan
    forwards, percents = [], []
    for trial in completed_trials(study):
        spent += FORWARDS_PER_GRADIENT if GRADIENT in trial.user_attrs else 1
        if value_of(trial) < lowest:
            lowest, percent = value_of(trial), regret(objective, space.mixture_of(trial)) / unit
        forwards.append(spent)
        percents.append(percent)
    return RegretCourse(tuple(forwards), tuple(percents))


def shares_of(results: Sequence[RegretResult], strategy: str, reference: str) -> Mapping[str, float]:
    """Return the ratio of forward-equivalents to 1 %, strategy over reference, by case, as medians over seeds.

    A reference without success counts with its whole budget, for an upper bound; a strategy without success gives
    infinity.
    """
    by_name = {(one.case.name, one.entry.strategy): one for one in results}
    shares = {}
    for (case, name), mine in by_name.items():
        if name == strategy and (case, reference) in by_name:
            other = by_name[case, reference]
            budget = min(course.forwards[-1] for course in other.courses)
            shares[case] = mine.forwards_to_one_percent / min(other.forwards_to_one_percent, budget)
    return shares
