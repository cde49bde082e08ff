"""Ratios of timings taken in turns: a slow machine slows both sides alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Ratio:
    """Median, least and greatest of `repeats` ratios."""

    median: float
    min: float
    max: float
    repeats: int

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        return cls(median(ratios), min(ratios), max(ratios), len(ratios))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.min:.3g} to {self.max:.3g}, {self.repeats} repeats)"


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def paired(numerator: Callable[[], object], denominator: Callable[[], object], repeats: int) -> Ratio:
    """Time both in turns, after an untimed round, and return the ratio."""
    numerator()
    denominator()
    return Ratio.of([seconds(numerator) / seconds(denominator) for _ in range(repeats)])
