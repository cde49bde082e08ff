"""Ratios of timings taken in turns, as a slow machine slows both sides alike; and figures beside their targets."""

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


@dataclass(frozen=True)
class Figure:
    """One measured figure, with its target from `least` to `most`; `value` is None where `note` says why."""

    part: str
    name: str
    value: float | None = None
    unit: str = ""
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None without a target or value."""
        if self.value is None or (self.least is None and self.most is None):
            return None
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


@dataclass(frozen=True)
class GpuFigures:
    """All figures so far. Targets are for a GPU, so figures of a CPU are not judged."""

    is_judged: bool
    figures: Sequence[Figure]


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def paired(numerator: Callable[[], object], denominator: Callable[[], object], repeats: int) -> Ratio:
    """Time both in turns, after an untimed round, and return the ratio."""
    numerator()
    denominator()
    return Ratio.of([seconds(numerator) / seconds(denominator) for _ in range(repeats)])
