"""The goal of a study: from losses by held-out domain to the scalar that is minimised.

A target aggregates the measures of its domains, plus a penalty for every constrained domain above its ceiling. The
penalty is exact: with a large enough rate the minimum keeps the constraint (Nocedal and Wright 2006, section 17.2).

A maximised measure is negated here, and nowhere else: values are minimised inside, and `shown` with their own sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from objectives.aggregates import AGGREGATES, Aggregate
from objectives.held_out import Floats, HeldOutLoss
from pool.mixture import SUM_TOLERANCE

Measure = Literal["nats-per-token", "bits-per-byte"]
Direction = Literal["minimise", "maximise"]
"""Which is better of a measure: less of it, or more."""

PENALTY = 10.0
"""Cost of one unit above a ceiling; no sane exchange rate between domains comes near it."""


@dataclass(frozen=True)
class Target:
    """Weights over held-out domains, and how their measures become one value.

    weights: finite, above 0, summing to 1 within 1e-9; only the aggregate `weighted` uses their sizes
    references: measures of the seed, for `worst-excess`
    ceilings: the largest allowed measures of constrained domains, which need not be in `weights`
    direction: of all measures; where they are maximised, a ceiling is the least allowed measure

    Measures, references and ceilings have the unit of `measure`. Raises `ValueError`.
    """

    weights: Mapping[str, float]
    aggregate: Aggregate = "weighted"
    measure: Measure = "nats-per-token"
    references: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    direction: Direction = "minimise"

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
    def over(
        cls,
        domains: Sequence[str],
        aggregate: Aggregate,
        *,
        measure: Measure = "nats-per-token",
        direction: Direction = "minimise",
    ) -> Target:
        """Make a target of equal weights. Raises `ValueError`."""
        return cls(dict.fromkeys(domains, 1 / max(1, len(domains))), aggregate, measure, direction=direction)

    @property
    def sign(self) -> float:
        """1, or -1 where more is better: minimised is the sign times a measure."""
        return -1.0 if self.direction == "maximise" else 1.0

    @property
    def domains(self) -> tuple[str, ...]:
        """The E domains to score; those that are only constrained come last."""
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
            **({"direction": self.direction} if self.direction == "maximise" else {}),
        }

    def plain(self, measure: Measure) -> Target:
        """Return the aggregate alone: without ceilings and references, in any measure."""
        aggregate = "worst" if self.aggregate == "worst-excess" else self.aggregate
        return Target(self.weights, aggregate, measure, direction=self.direction)

    def value(self, measures: Floats, sizes: Floats) -> float:
        """Return what is minimised: the aggregate plus penalties for measures (E,) and sizes (E,)."""
        return self._aggregate(measures, sizes)[0] + PENALTY * float(self._above(measures).sum())

    def shown(self, value: float) -> float:
        """Return a value with the sign of the measures."""
        return self.sign * value

    def slopes(self, measures: Floats, sizes: Floats) -> Floats:
        """Return d value / d measure (E,); at a ceiling and between equally bad domains, the slope of one side."""
        slopes: Floats = np.where(self._above(measures) > 0, PENALTY, 0.0)
        slopes[: len(self.weights)] += self._aggregate(measures, sizes)[1]
        return self.sign * slopes

    def violations(self, measures: Mapping[str, float]) -> dict[str, float]:
        """Return how far each constrained domain is on the wrong side of its ceiling; negative on the right one."""
        return {name: self.sign * (measures[name] - ceiling) for name, ceiling in self.ceilings.items()}

    def _aggregate(self, measures: Floats, sizes: Floats) -> tuple[float, Floats]:
        count = len(self.weights)
        references = np.array([self.sign * self.references.get(name, 0.0) for name in self.weights])
        weights = np.array(list(self.weights.values()))
        return AGGREGATES[self.aggregate](weights, self.sign * measures[:count], sizes[:count], references)

    def _above(self, measures: Floats) -> Floats:
        ceilings = np.array([self.sign * self.ceilings.get(name, self.sign * math.inf) for name in self.domains])
        above: Floats = np.maximum(self.sign * measures - ceilings, 0.0)
        return above


@dataclass(frozen=True)
class Goal:
    """One or more targets by name, in one measure; the value is the mean of theirs.

    Functions of losses have twins, named `_of`, of measures (E,) and sizes (E,) in the order of `domains`. Raises
    `ValueError`.
    """

    targets: Mapping[str, Target]

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("a goal needs at least one target")
        if len({target.measure for target in self.targets.values()}) > 1:
            raise ValueError("several targets need one measure")
        for name in self.domains:
            if len({target.direction for target in self.targets.values() if name in target.domains}) > 1:
                raise ValueError(f"{name!r} is minimised by one target and maximised by another: keep one direction")

    @classmethod
    def of(cls, target: Target | Mapping[str, float], *, measure: Measure = "nats-per-token") -> Goal:
        """Make the goal of one target, or of a weighted sum. Raises `ValueError`."""
        return cls({"target": target if isinstance(target, Target) else Target(target, measure=measure)})

    @classmethod
    def over(cls, domains: Sequence[str], aggregate: Aggregate, *, measure: Measure = "nats-per-token") -> Goal:
        """Make the goal of one target of equal weights. Raises `ValueError`."""
        return cls.of(Target.over(domains, aggregate, measure=measure))

    @property
    def measure(self) -> Measure:
        """The unit of the value."""
        return next(iter(self.targets.values())).measure

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The E domains that any target needs."""
        return tuple(dict.fromkeys(name for target in self.targets.values() for name in target.domains))

    @property
    def maximised(self) -> frozenset[str]:
        """The domains of which more is better."""
        some = (target for target in self.targets.values() if target.direction == "maximise")
        return frozenset(name for target in some for name in target.domains)

    @property
    def direction(self) -> Direction:
        """Which is better of `shown` values; targets of both directions make a mean that is minimised."""
        return "maximise" if all(target.direction == "maximise" for target in self.targets.values()) else "minimise"

    @property
    def two_ways(self) -> bool:
        """Whether targets have both directions: those maximised are then negated in the mean."""
        return len({target.direction for target in self.targets.values()}) > 1

    def shown(self, value: float) -> float:
        """Return a value with the sign of the measures, if all targets have one direction."""
        return -value if self.direction == "maximise" else value

    @property
    def digest_parts(self) -> dict[str, object]:
        """Everything that decides the value, in JSON types; a single target stands without its name."""
        parts: dict[str, object] = {name: target.digest_parts for name, target in self.targets.items()}
        return parts if len(parts) > 1 else next(iter(self.targets.values())).digest_parts

    def plain(self, measure: Measure) -> Goal:
        """Return the aggregates alone: without penalties and references, in any measure."""
        return Goal({name: target.plain(measure) for name, target in self.targets.items()})

    def measures(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return the domains' measures (E,)."""
        return measures_of(losses, self.domains, self.measure)

    def sizes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return the divisors of the domains' nats (E,): tokens, or bytes times ln 2."""
        return sizes_of(losses, self.domains, self.measure)

    def value(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the scalar minimised."""
        return self.value_of(self.measures(losses), self.sizes(losses))

    def values(self, losses: Mapping[str, HeldOutLoss]) -> tuple[float, ...]:
        """Return the value of each target."""
        return self.values_of(self.measures(losses), self.sizes(losses))

    def violations(self, losses: Mapping[str, HeldOutLoss]) -> dict[str, float]:
        """Return how far each constrained domain is beyond its ceiling."""
        return self.violations_of(self.measures(losses))

    def slopes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return d value / d measure (E,)."""
        return self.slopes_of(self.measures(losses), self.sizes(losses))

    def standard_error(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return sqrt(sum_e (slope_e se_e)^2): first order, with independent domains."""
        per_byte = self.measure == "bits-per-byte"
        errors = [
            losses[name].bits_per_byte_error if per_byte else losses[name].standard_error for name in self.domains
        ]
        pairs = zip(self.slopes(losses), errors, strict=True)
        return math.sqrt(math.fsum((slope * error) ** 2 for slope, error in pairs if slope != 0))

    def loss_nats(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the value in nats per token, without penalties."""
        return self.plain("nats-per-token").value(losses)

    def bits_per_byte(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the value in bits per byte, without penalties."""
        return self.plain("bits-per-byte").value(losses)

    def value_of(self, measures: Floats, sizes: Floats) -> float:
        return float(np.mean(self.values_of(measures, sizes)))

    def values_of(self, measures: Floats, sizes: Floats) -> tuple[float, ...]:
        return tuple(target.value(measures[at], sizes[at]) for target, at in self._placed)

    def violations_of(self, measures: Floats) -> dict[str, float]:
        by_name = dict(zip(self.domains, measures.tolist(), strict=True))
        return {name: above for one in self.targets.values() for name, above in one.violations(by_name).items()}

    def slopes_of(self, measures: Floats, sizes: Floats) -> Floats:
        slopes = np.zeros(len(self.domains))
        for target, at in self._placed:
            slopes[at] += target.slopes(measures[at], sizes[at]) / len(self.targets)
        return slopes

    @cached_property
    def _placed(self) -> list[tuple[Target, list[int]]]:
        return [(target, [self.domains.index(name) for name in target.domains]) for target in self.targets.values()]


def measures_of(losses: Mapping[str, HeldOutLoss], domains: Sequence[str], measure: Measure) -> Floats:
    """Return the measures of the named domains (E,)."""
    nats: Floats = np.array([losses[name].nats for name in domains])
    return nats / sizes_of(losses, domains, measure)


def sizes_of(losses: Mapping[str, HeldOutLoss], domains: Sequence[str], measure: Measure) -> Floats:
    """Return the divisors of the named domains' nats (E,)."""
    if measure == "bits-per-byte":
        return np.array([losses[name].bytes * math.log(2) for name in domains])
    return np.array([float(losses[name].tokens) for name in domains])
