"""Several targets at once: the objectives of a study that looks for a Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from objectives.held_out import Floats, HeldOutLoss
from objectives.target.target import Measure, Target, measures_of, sizes_of, standard_error


@dataclass(frozen=True)
class Targets:
    """N targets by name, in one measure. The scalar is their mean, by which a single best mixture is chosen.

    Raises `ValueError` for fewer than two, or for targets in different measures.
    """

    by_name: Mapping[str, Target]

    def __post_init__(self) -> None:
        if len(self.by_name) < 2:
            raise ValueError("several targets are at least two; give a single one as [target]")
        if len({target.measure for target in self.by_name.values()}) > 1:
            raise ValueError("several targets need one measure")

    @property
    def measure(self) -> Measure:
        """The measure of all of them."""
        return next(iter(self.by_name.values())).measure

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The E domains that any of them needs."""
        return tuple(dict.fromkeys(name for target in self.by_name.values() for name in target.domains))

    @property
    def digest_parts(self) -> dict[str, object]:
        """Those of every target, by name."""
        return {name: target.digest_parts for name, target in self.by_name.items()}

    def value(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the mean of the values."""
        return self.value_of(self.measures(losses), self.sizes(losses))

    def values(self, losses: Mapping[str, HeldOutLoss]) -> tuple[float, ...]:
        """Return each target's value (N)."""
        return self.values_of(self.measures(losses), self.sizes(losses))

    def slopes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return d mean value / d measure (E,)."""
        return self.slopes_of(self.measures(losses), self.sizes(losses))

    def measures(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return the domains' measures (E,)."""
        return measures_of(losses, self.domains, self.measure)

    def sizes(self, losses: Mapping[str, HeldOutLoss]) -> Floats:
        """Return what the domains' nats are divided by (E,)."""
        return sizes_of(losses, self.domains, self.measure)

    def standard_error(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the standard error of the mean value."""
        return standard_error(self, losses)

    def loss_nats(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the mean of the targets' losses in nats per token."""
        return float(np.mean([target.loss_nats(losses) for target in self.by_name.values()]))

    def bits_per_byte(self, losses: Mapping[str, HeldOutLoss]) -> float:
        """Return the mean of the targets' bits per byte."""
        return float(np.mean([target.bits_per_byte(losses) for target in self.by_name.values()]))

    def violations(self, losses: Mapping[str, HeldOutLoss]) -> dict[str, float]:
        """Return how far each domain that any target constrains is above its ceiling."""
        return self.violations_of(self.measures(losses))

    def value_of(self, measures: Floats, sizes: Floats) -> float:
        """Return the mean value for measures (E,) and sizes (E,)."""
        return float(np.mean(self.values_of(measures, sizes)))

    def values_of(self, measures: Floats, sizes: Floats) -> tuple[float, ...]:
        """Return each target's value (N) for measures (E,) and sizes (E,)."""
        parts = ((target, self._places(target)) for target in self.by_name.values())
        return tuple(target.value_of(measures[at], sizes[at]) for target, at in parts)

    def violations_of(self, measures: Floats) -> dict[str, float]:
        """Return how far each domain that any target constrains is above its ceiling for measures (E,)."""
        parts = ((target, self._places(target)) for target in self.by_name.values())
        return {name: by for target, at in parts for name, by in target.violations_of(measures[at]).items()}

    def slopes_of(self, measures: Floats, sizes: Floats) -> Floats:
        """Return d mean value / d measure (E,)."""
        slopes = np.zeros(len(self.domains))
        for target in self.by_name.values():
            at = self._places(target)
            slopes[at] += target.slopes_of(measures[at], sizes[at]) / len(self.by_name)
        return slopes

    def _places(self, target: Target) -> list[int]:
        return [self.domains.index(name) for name in target.domains]
