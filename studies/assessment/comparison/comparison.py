"""A comparison of searches that ask the same question: courses cut at equal budgets, regret, and who beats whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from objectives.held_out import Floats
from studies.assessment.comparison.best_known import BestKnown
from studies.assessment.comparison.course import Axis, Course
from studies.assessment.comparison.duels import Duel, duels, least_p


@dataclass(frozen=True)
class Contender:
    """A strategy with a course for each seed, or a study with its only one. `forwards_per_merge` is its price."""

    name: str
    forwards_per_merge: int
    courses: tuple[Course, ...]

    @property
    def ends(self) -> list[float]:
        """The values at the end, one a course."""
        return [course.best[-1] for course in self.courses]

    def spread_at(self, axis: Axis, amount: float) -> Floats:
        """Median, least and greatest value (3,) over the courses once so much was spent; NaN where one had none."""
        values = [course.best_at(axis, amount) for course in self.courses]
        return np.array([np.median(values), np.min(values), np.max(values)])

    def median_spent(self, axis: Axis) -> float:
        """What was spent in all, the median over the courses."""
        return float(np.median([course.spent(axis)[-1] for course in self.courses]))


@dataclass(frozen=True)
class Comparison:
    """Contenders at no more than `budget_forwards` forward-equivalents each.

    `name` is the study's, or the studies'; `measure` the unit of values. `differing` are the parts of their identities
    in which studies given side by side differ, all of them harmless to comparing. Several seeds are in one order.
    """

    name: str
    measure: str
    budget_forwards: int
    best_known: BestKnown
    contenders: tuple[Contender, ...]
    differing: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        """Courses of each contender."""
        return len(self.contenders[0].courses)

    @cached_property
    def duels(self) -> tuple[Duel, ...]:
        """Every two contenders over the seeds; none where there is one course each."""
        return duels({one.name: one.ends for one in self.contenders}) if self.seeds > 1 else ()

    def regret(self, values: Floats) -> Floats:
        """Return values less the best one known, of the shape they come in."""
        return values - self.best_known.value

    def as_json(self) -> dict[str, object]:
        """Give what `--json` prints."""
        return {
            "study": self.name,
            "measure": self.measure,
            "budget_forward_equivalents": self.budget_forwards,
            "best_known": asdict(self.best_known),
            "differing": list(self.differing),
            "seeds": self.seeds,
            "least_p_value": least_p(self.seeds) if self.seeds > 1 else None,
            "contenders": [self._contender(one) for one in self.contenders],
            "duels": [asdict(duel) for duel in self.duels],
        }

    def _contender(self, one: Contender) -> dict[str, object]:
        end = one.spread_at("forwards", self.budget_forwards)
        return {
            "name": one.name,
            "forward_equivalents_per_merge": one.forwards_per_merge,
            "value": _named(end),
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
            "best": course.best,
        }


def cut_to_equal(contenders: Sequence[Contender], budget_forwards: int) -> tuple[Contender, ...]:
    """Cut every course at the same budget."""
    return tuple(
        Contender(one.name, one.forwards_per_merge, tuple(course.until(budget_forwards) for course in one.courses))
        for one in contenders
    )


def _named(spread: Floats) -> dict[str, float]:
    return dict(zip(("median", "min", "max"), spread.tolist(), strict=True))
