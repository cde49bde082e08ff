"""The target: how held-out domains become the scalar that is minimised.

An aggregate of the domains' losses, plus a penalty for every constrained domain that is above its ceiling. The
penalty is exact: once it outweighs what a violation could gain, the minimum keeps the constraint (Nocedal and Wright
2006, section 17.2), so every strategy handles constraints without knowing of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from objectives.held_out import Floats, HeldOutLoss
from objectives.target.aggregates import AGGREGATES, Aggregate
from pool.mixture import SUM_TOLERANCE

Measure = Literal["nats-per-token", "bits-per-byte"]

PENALTY = 10.0
"""What one unit above a ceiling costs; no sane exchange rate between domains comes near it."""


class Goal(Protocol):
    """What an objective makes of domain losses: one `Target`, or several `Targets` and their mean."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The E domains that must be scored."""

    @property
    def measure(self) -> Measure:
        """The unit of the value."""

    @property
    def digest_parts(self) -> dict[str, object]:
        """Everything that decides the value, in JSON types."""

    def value(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the scalar minimised."""

    def values(self, losses: Mapping[str, HeldOutLoss]) -> tuple[float, ...]:
        """Return the objectives minimised side by side."""

    def slopes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return d value / d measure of every domain (E,)."""

    def standard_error(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the standard error of the value."""

    def loss_nats(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Aggregate in nats per token, without penalties."""

    def bits_per_byte(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Aggregate in bits per byte, without penalties."""

    def violations(self, losses: Mapping[str, HeldOutLoss]) -> dict[str, float]:
        """Return how far each constrained domain is above its ceiling."""

    def measures(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return the domains' measures (E,)."""

    def sizes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return what the domains' nats are divided by (E,)."""

    def value_of(self, measures: Floats, sizes: Floats) -> float:
        """Return the scalar for measures (E,) and sizes (E,)."""

    def values_of(self, measures: Floats, sizes: Floats) -> tuple[float, ...]:
        """Return the objectives minimised side by side for measures (E,) and sizes (E,)."""

    def violations_of(self, measures: Floats) -> dict[str, float]:
        """Return how far each constrained domain is above its ceiling for measures (E,)."""

    def slopes_of(self, measures: Floats, sizes: Floats) -> Floats:
        """Return d value / d measure (E,)."""


@dataclass(frozen=True)
class Target:
    """Weights over held-out domains: finite, above zero, summing to one within 1e-9.

    `aggregate` says how the domains' measures become one value (only `weighted` uses the weights); `references` are
    what `worst-excess` is in excess of; `ceilings` the largest measure of constrained domains, which need not be in
    `weights`. All are in the unit of `measure`. Raises `ValueError`.
    """

    weights: Mapping[str, float]
    aggregate: Aggregate = "weighted"
    measure: Measure = "nats-per-token"
    references: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("the target needs at least one held-out domain")
        for name, weight in self.weights.items():
            if not math.isfinite(weight) or weight <= 0:
                raise ValueError(f"the target weight of {name!r} must be finite and above 0: got {weight!r}")
        total = math.fsum(self.weights.values())
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"the target weights must sum to 1: they sum to {total:.12g}; divide each by {total:.6g}")
        without = sorted(set(self.weights) - set(self.references))
        if self.aggregate == "worst-excess" and without:
            raise ValueError(f"worst-excess needs a reference for every domain; {without[0]!r} has none")

    @classmethod
    def over(cls, domains: Sequence[str], aggregate: Aggregate, *, measure: Measure = "nats-per-token") -> Target:
        """Make a target that weighs no domain by hand. Raises `ValueError`."""
        return replace(cls(dict.fromkeys(domains, 1 / max(1, len(domains))), measure=measure), aggregate=aggregate)

    @property
    def domains(self) -> tuple[str, ...]:
        """The E domains that must be scored, those that are only constrained last."""
        return tuple(dict.fromkeys([*self.weights, *self.ceilings]))

    @property
    def digest_parts(self) -> dict[str, object]:
        """Everything that decides the value, in JSON types."""
        return {
            "weights": dict(self.weights),
            "aggregate": self.aggregate,
            "measure": self.measure,
            "references": dict(self.references),
            "ceilings": dict(self.ceilings),
            "penalty": PENALTY,
        }

    def value(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the scalar minimised."""
        return self.value_of(self.measures(losses), self.sizes(losses))

    def values(self, losses: Mapping[str, HeldOutLoss]) -> tuple[float, ...]:
        """Return the objectives minimised side by side: here the one."""
        return self.values_of(self.measures(losses), self.sizes(losses))

    def slopes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return d value / d measure of every domain (E,)."""
        return self.slopes_of(self.measures(losses), self.sizes(losses))

    def standard_error(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the standard error of the value, to first order, domains taken as independent."""
        return standard_error(self, losses)

    def loss_nats(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Aggregate the target's domains in nats per token, without penalties."""
        return self._plainly("nats-per-token").value(losses)

    def bits_per_byte(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Aggregate the target's domains in bits per byte, without penalties."""
        return self._plainly("bits-per-byte").value(losses)

    def violations(self, losses: Mapping[str, HeldOutLoss]) -> dict[str, float]:
        """Return how far each constrained domain is above its ceiling; negative below it."""
        return self.violations_of(self.measures(losses))

    def measures(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return the domains' measures (E,)."""
        return measures_of(losses, self.domains, self.measure)

    def sizes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return what the domains' nats are divided by (E,): tokens, or bytes times ln 2."""
        return sizes_of(losses, self.domains, self.measure)

    def value_of(self, measures: Floats, sizes: Floats) -> float:
        """Return the scalar for measures (E,) and sizes (E,)."""
        return self._aggregate(measures, sizes)[0] + PENALTY * float(self._above(measures).sum())

    def values_of(self, measures: Floats, sizes: Floats) -> tuple[float, ...]:
        """Return the objectives for measures (E,) and sizes (E,): here the one."""
        return (self.value_of(measures, sizes),)

    def violations_of(self, measures: Floats) -> dict[str, float]:
        """Return how far each constrained domain is above its ceiling for measures (E,); negative below it."""
        by_name = dict(zip(self.domains, measures.tolist(), strict=True))
        return {name: by_name[name] - ceiling for name, ceiling in self.ceilings.items()}

    def slopes_of(self, measures: Floats, sizes: Floats) -> Floats:
        """Return d value / d measure (E,); at a ceiling and between equally bad domains, that of one side."""
        slopes = np.zeros(len(self.domains))
        slopes[: len(self.weights)] = self._aggregate(measures, sizes)[1]
        broken: Floats = slopes + PENALTY * (self._above(measures) > 0)
        return broken

    def _aggregate(self, measures: Floats, sizes: Floats) -> tuple[float, Floats]:
        count = len(self.weights)
        references = np.array([self.references.get(name, 0.0) for name in self.weights])
        weights = np.array(list(self.weights.values()))
        return AGGREGATES[self.aggregate](weights, measures[:count], sizes[:count], references)

    def _above(self, measures: Floats) -> Floats:
        ceilings = np.array([self.ceilings.get(name, math.inf) for name in self.domains])
        above: Floats = np.maximum(measures - ceilings, 0.0)
        return above

    def _plainly(self, measure: Measure) -> Target:
        aggregate: Aggregate = "worst" if self.aggregate == "worst-excess" else self.aggregate
        return Target(self.weights, aggregate, measure)


def measures_of(losses: Mapping[str, HeldOutLoss], domains: Sequence[str], measure: Measure) -> Floats:
    """Return the measures of the named domains (E,)."""
    nats: Floats = np.array([losses[name].nats for name in domains])
    return nats / sizes_of(losses, domains, measure)


def sizes_of(losses: Mapping[str, HeldOutLoss], domains: Sequence[str], measure: Measure) -> Floats:
    """Return what the named domains' nats are divided by (E,)."""
    if measure == "bits-per-byte":
        return np.array([losses[name].bytes * math.log(2) for name in domains])
    return np.array([float(losses[name].tokens) for name in domains])


def standard_error(goal: Goal, losses: Mapping[str, HeldOutLoss]) -> float:
    """Return the standard error of a goal's value, by the slopes: sqrt(sum_e (slope_e se_e)^2)."""
    per_byte = goal.measure == "bits-per-byte"
    errors = [losses[name].bits_per_byte_error if per_byte else losses[name].standard_error for name in goal.domains]
    pairs = zip(goal.slopes(losses), errors, strict=True)
    return math.sqrt(math.fsum((slope * error) ** 2 for slope, error in pairs if slope != 0))
