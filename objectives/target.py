"""The target: how much each held-out domain counts. The scalar minimised is the weighted mean of domain losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from objectives.held_out import HeldOutLoss
from pool.mixture import SUM_TOLERANCE


@dataclass(frozen=True)
class Target:
    """Weights over E held-out domains: finite, above zero, summing to one within 1e-9.

    Raises `ValueError` when they are not. A domain that does not count is left out, not given zero.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("the target needs at least one held-out domain")
        for name, weight in self.weights.items():
            if not math.isfinite(weight) or weight <= 0:
                raise ValueError(f"the target weight of {name!r} must be finite and above 0: got {weight!r}")
        total = math.fsum(self.weights.values())
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(f"the target weights must sum to 1: they sum to {total:.12g}; divide each by {total:.6g}")

    def loss_nats(self, domains: Mapping[str, HeldOutLoss]) -> float:
        """Weighted mean of the domains' mean losses, nats per token."""
        return math.fsum(weight * domains[name].loss_nats for name, weight in self.weights.items())

    def bits_per_byte(self, domains: Mapping[str, HeldOutLoss]) -> float:
        """Weighted mean of the domains' bits per byte."""
        return math.fsum(weight * domains[name].bits_per_byte for name, weight in self.weights.items())

    def standard_error(self, domains: Mapping[str, HeldOutLoss]) -> float:
        """Standard error of `loss_nats`, domains taken as independent."""
        return math.sqrt(
            math.fsum((weight * domains[name].standard_error) ** 2 for name, weight in self.weights.items())
        )
