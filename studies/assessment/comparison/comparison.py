"""Searches of one question compared at equal budgets: regret, duels over the seeds, and a CSV file of every merge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np
from scipy.stats import wilcoxon

from objectives.held_out import Floats
from objectives.target import Direction
from pool.files.whole import csv_text, write_text, writing_to
from studies.assessment.comparison.course import Axis, BestKnown, Course

TIE = 1e-9
"""Closer values are the same mixture but for rounding."""
EXACT_WITHOUT_TIES, EXACT_WITH_TIES = 50, 13
"""Most differences with an exact p value in SciPy, without and with equal ones."""
COLUMNS = (
    *("contender", "seed", "study", "merge", "forward_equivalents", "tokens_read", "seconds"),
    *("best", "regret", "measure"),
)


@dataclass(frozen=True)
class Duel:
    """Two contenders over the seeds, by minimised values.

    wins, ties, losses: seeds, as the first sees them
    median_difference: the first's value less the second's
    p_value: Wilcoxon's signed-rank test, two-sided (Wilcoxon 1945); None if each ends alike in
        all its seeds, as repeats of one difference are no evidence
    exact: counted, not approximated
    """

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    median_difference: float
    p_value: float | None
    exact: bool


def duels(ends: Mapping[str, Sequence[float]]) -> tuple[Duel, ...]:
    """Let every two contenders meet, by their last values (n,) in one order of seeds."""
    return tuple(_duel(one, other, ends[one], ends[other]) for one, other in combinations(ends, 2))


def least_p(seeds: int) -> float:
    """Return the lowest possible p value, 2 * (1/2)^n, of n seeds all won by one side."""
    return min(1.0, 2.0 ** (1 - seeds))


def seeds_needed(level: float) -> int:
    """Return the fewest seeds for a p value below a level."""
    return next(seeds for seeds in range(1, 1000) if least_p(seeds) < level)


def _duel(first: str, second: str, mine: Sequence[float], other: Sequence[float]) -> Duel:
    differences = np.array(mine) - np.array(other)
    wins, losses = int((differences < -TIE).sum()), int((differences > TIE).sum())
    counted = differences[np.abs(differences) > TIE]
    p, exact = (None, False) if _constant(mine) and _constant(other) else _test(counted)
    ties = len(differences) - wins - losses
    return Duel(first, second, wins, ties, losses, float(median(differences.tolist())), p, exact)


def _constant(values: Sequence[float]) -> bool:
    return float(np.ptp(values)) <= TIE


def _test(differences: np.ndarray) -> tuple[float, bool]:
    if len(differences) == 0:
        return 1.0, True
    some_equal = len(np.unique(np.abs(differences))) < len(differences)
    exact = len(differences) <= (EXACT_WITH_TIES if some_equal else EXACT_WITHOUT_TIES)
    return float(wilcoxon(differences).pvalue), exact


@dataclass(frozen=True)
class Contender:
    """A strategy with a course per seed, or a study with one; `forwards_per_merge` is the price of its merges."""

    name: str
    forwards_per_merge: int
    courses: tuple[Course, ...]

    @property
    def ends(self) -> list[float]:
        return [course.best[-1] for course in self.courses]

    def spread_at(self, axis: Axis, amount: float) -> Floats:
        """Return median, least and greatest value (3,) over the courses at an amount spent; NaN if one has none."""
        values = [course.best_at(axis, amount) for course in self.courses]
        return np.array([np.median(values), np.min(values), np.max(values)])

    def median_spent(self, axis: Axis) -> float:
        """Return the median total over the courses."""
        return float(np.median([course.spent(axis)[-1] for course in self.courses]))


@dataclass(frozen=True)
class Comparison:
    """Contenders at no more than `budget_forwards` forward-equivalents each, their seeds in one order.

    name: the study's, or the studies'
    measure: unit of the values
    direction: which is better of shown values; the courses' values are minimised
    differing: parts of the studies' identities unlike each other, all harmless to comparing
    """

    name: str
    measure: str
    budget_forwards: int
    best_known: BestKnown
    contenders: tuple[Contender, ...]
    differing: tuple[str, ...] = ()
    direction: Direction = "minimise"

    @property
    def seeds(self) -> int:
        return len(self.contenders[0].courses)

    @property
    def priors(self) -> dict[str, float]:
        """Values of the mixtures from text alone among the starts, by name; the lowest where courses differ."""
        named = [item for one in self.contenders for course in one.courses for item in course.priors.items()]
        return {name: min(value for other, value in named if other == name) for name, _ in named}

    @cached_property
    def duels(self) -> tuple[Duel, ...]:
        """Every two contenders over the seeds; empty for one course each."""
        return duels({one.name: one.ends for one in self.contenders}) if self.seeds > 1 else ()

    def regret(self, values: Floats) -> Floats:
        return values - self.best_known.value

    @property
    def sign(self) -> float:
        """Times a course's value: the value with its own sign."""
        return -1.0 if self.direction == "maximise" else 1.0

    def shown(self, spread: Floats) -> Floats:
        """Return median, least and greatest (3,) of minimised values with their own sign."""
        return np.array([self.sign * spread[0], *sorted(self.sign * spread[1:])])

    def as_json(self) -> dict[str, object]:
        return {
            "study": self.name,
            "measure": self.measure,
            "direction": self.direction,
            "budget_forward_equivalents": self.budget_forwards,
            "best_known": asdict(replace(self.best_known, value=self.sign * self.best_known.value)),
            "differing": list(self.differing),
            **({"priors": {name: self.sign * value for name, value in self.priors.items()}} if self.priors else {}),
            "seeds": self.seeds,
            "least_p_value": least_p(self.seeds) if self.seeds > 1 else None,
            "contenders": [self._contender(one) for one in self.contenders],
            "duels": [asdict(replace(one, median_difference=self.sign * one.median_difference)) for one in self.duels],
        }

    def _contender(self, one: Contender) -> dict[str, object]:
        end = one.spread_at("forwards", self.budget_forwards)
        return {
            "name": one.name,
            "forward_equivalents_per_merge": one.forwards_per_merge,
            "value": _named(self.shown(end)),
            "regret": _named(self.regret(end)),
            "courses": [self._course(course) for course in one.courses],
        }

    def _course(self, course: Course) -> dict[str, object]:
        return {
            "study": course.study,
            "seed": course.seed,
            "merges": course.merges,
            "forward_equivalents": course.forwards,
            "tokens_read": course.tokens,
            "seconds": course.seconds,
            "best": [self.sign * value for value in course.best],
        }


def cut_to_equal(contenders: Sequence[Contender], budget_forwards: int) -> tuple[Contender, ...]:
    return tuple(
        Contender(one.name, one.forwards_per_merge, tuple(course.until(budget_forwards) for course in one.courses))
        for one in contenders
    )


def _named(spread: Floats) -> dict[str, float]:
    return dict(zip(("median", "min", "max"), spread.tolist(), strict=True))


def write_comparison(comparison: Comparison, path: Path) -> Path:
    """Write sums spent and best value after every merge as CSV; empty before the first value. Return the path."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, csv_text(COLUMNS, _rows(comparison)))
    return path


def _rows(comparison: Comparison) -> Iterator[list[object]]:
    for one in comparison.contenders:
        for course in one.courses:
            for row, best in enumerate(course.best):
                spent = (course.forwards[row], course.tokens[row], f"{course.seconds[row]:.6f}")
                both = (comparison.sign * best, best - comparison.best_known.value)
                values = [repr(x) if math.isfinite(x) else "" for x in both]
                yield [one.name, course.seed, course.study, row + 1, *spent, *values, comparison.measure]
