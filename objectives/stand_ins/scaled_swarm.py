"""A swarm at a target scale: few runs of its own, and many at other scales, in a model of two fidelities.

    truth(w) = a + b proxy(w) + delta(w)

The proxy of a mixture is the prediction from the runs of another scale; where a run there has the very mixture, half
the prediction and half the run's own value, which has less error than either (docs/decisions/0073). Every scale is
judged by the target's runs, each predicted from the others. The best judged scale predicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from objectives.agreement.two_fidelity import ENOUGH_FOR_CONFORMAL, Truth, TwoFidelity, Yardstick
from objectives.held_out import Floats
from objectives.stand_ins.scales import row_of
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.stand_ins.tabulated_loss import FittedSwarm
from pool.files.digests import digest_json

ERRORS_ALIKE = 0.5
"""Correlation of the errors of two metrics: an offset between scales is an offset of many metrics."""


@dataclass(frozen=True, eq=False)
class Bridge:
    """From one scale to the target, in E metrics.

    model: of the target's N runs, with the scale's predictions as proxies.
    left_out: the N runs, each from the others, (N, E).
    variance: (N, E), of the proxies.
    """

    swarm: FittedSwarm
    metrics: tuple[str, ...]
    model: TwoFidelity
    left_out: Truth
    variance: Floats

    @classmethod
    def of(cls, swarm: FittedSwarm, target: SwarmTable, metrics: Sequence[str]) -> Bridge:
        proxy, variance = proxies(swarm, metrics, target.weights)
        yardstick = Yardstick.of(swarm.table.weights, _values(swarm.table, metrics))
        model = TwoFidelity.fit(target.weights, proxy, _values(target, metrics), yardstick)
        return cls(swarm, tuple(metrics), model, model.left_out(), variance)

    def predict(self, weights: Floats) -> tuple[Truth, Floats]:
        """Predict mixtures (M, K): truths given the proxies, and the proxies' variance (M, E)."""
        proxy, variance = proxies(self.swarm, self.metrics, weights)
        return self.model.predict(weights, proxy), variance


class ScaledSwarm:
    """The swarm `table` at the scale `target`, predicted from its own runs and those of `others`, by scale.

    A peer of `FittedSwarm`. All of `metrics` share a model, fitted at its first use; `coverage` is that of the
    intervals, mean +- z deviation, that Student's t is turned into.
    """

    def __init__(
        self,
        target: str,
        table: SwarmTable,
        others: Mapping[str, FittedSwarm],
        metrics: Iterable[str],
        *,
        coverage: float,
    ) -> None:
        self.target = target
        self.table = table
        self.others = dict(others)
        self.metrics = tuple(metrics)
        self._coverage = coverage
        self.method = f"two fidelities over {next(iter(self.others.values())).method}"
        scales = {name: one.digest for name, one in self.others.items()}
        self.digest = digest_json({"swarm": table.digest, "method": self.method, "scales": scales})

    @property
    def errors_alike(self) -> float:
        """The correlation of errors between metrics."""
        return ERRORS_ALIKE

    @property
    def calibrates(self) -> bool:
        """Whether the runs are enough to calibrate an aggregate's intervals."""
        return len(self.table.runs) >= ENOUGH_FOR_CONFORMAL

    @cached_property
    def places(self) -> Floats:
        """The mixtures (M, K) of all runs at any scale, each once."""
        every = np.concatenate([self.table.weights, *(one.table.weights for one in self.others.values())])
        first = [at for at, mixture in enumerate(every) if row_of(mixture, every) == at]
        return every[first]

    @cached_property
    def bridges(self) -> dict[str, Bridge]:
        """From every other scale to the target."""
        return {name: Bridge.of(swarm, self.table, self.metrics) for name, swarm in self.others.items()}

    @cached_property
    def errors(self) -> dict[str, Floats]:
        """By scale, the errors (N, E) of the target's runs left out."""
        truth = _values(self.table, self.metrics)
        return {name: bridge.left_out.mean - truth for name, bridge in self.bridges.items()}

    @cached_property
    def source(self) -> str:
        """The scale that tells most: the least errors of runs left out, in spreads of the metrics."""
        unit = np.mean([bridge.model.yardstick.unit for bridge in self.bridges.values()], axis=0)
        sizes = {name: float(np.sqrt(np.mean((errors / unit) ** 2))) for name, errors in self.errors.items()}
        return min(sizes, key=sizes.__getitem__)

    def predict(self, metrics: Iterable[str], weights: Floats) -> tuple[Floats, Floats]:
        """Predict E metrics of mixtures (N, K) at the target: means and standard deviations, both (E, N)."""
        return self._chosen(metrics, *self.bridges[self.source].predict(weights))

    def out_of_fold(self, metrics: Iterable[str], scale: str | None = None) -> tuple[Floats, Floats]:
        """Predict E metrics of the N runs, each from others only and from one scale: means and deviations, (E, N)."""
        bridge = self.bridges[scale or self.source]
        return self._chosen(metrics, bridge.left_out, bridge.variance)

    def _chosen(self, metrics: Iterable[str], truth: Truth, variance: Floats) -> tuple[Floats, Floats]:
        z = NormalDist().inv_cdf((1 + self._coverage) / 2)
        deviation = np.sqrt((truth.half_width(self._coverage) / z) ** 2 + variance)
        columns = [self.metrics.index(name) for name in metrics]
        return truth.mean.T[columns], deviation.T[columns]


def proxies(swarm: FittedSwarm, metrics: Sequence[str], weights: Floats) -> tuple[Floats, Floats]:
    """Return the proxies of mixtures (N, K) by a scale's runs, and their variance, both (N, E)."""
    means, deviations = (some.T.copy() for some in swarm.predict(metrics, weights))
    values = _values(swarm.table, metrics)
    for at, mixture in enumerate(weights):
        row = row_of(mixture, swarm.table.weights)
        if row is not None:
            means[at] = (means[at] + values[row]) / 2
            deviations[at] = 0.0
    return means, deviations**2


def _values(table: SwarmTable, metrics: Iterable[str]) -> Floats:
    return np.array([table.metrics[name] for name in metrics]).T
