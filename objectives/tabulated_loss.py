"""An objective that merges nothing: it predicts from a table of models that others have already trained.

One predictor is fitted for every metric and their predictions are aggregated, so another target needs no refit. What
predicts is handed in, so that this floor knows of no surrogate.
"""

import math
import time
from collections.abc import Callable, Iterable

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.swarm_table import SwarmTable
from objectives.target import Target
from pool.fingerprint import digest_json
from pool.mixture import Mixture

Predictor = Callable[[Floats], tuple[Floats, Floats]]
"""Predicts mixtures (N, K): mean and standard deviation, both (N,)."""
FitPredictor = Callable[[Floats, Floats], Predictor]
"""Learns from mixtures (N, K) and one metric's values (N,)."""


class FittedSwarm:
    """A swarm with a predictor for each of its metrics, fitted when it is first asked for.

    `method` names what `fit_predictor` does, settings included, since digests must tell two of them apart.
    """

    def __init__(self, table: SwarmTable, fit_predictor: FitPredictor, *, method: str) -> None:
        self.table = table
        self._fit_predictor = fit_predictor
        self._fitted: dict[str, Predictor] = {}
        self.digest = digest_json({"swarm": table.digest, "method": method})

    def predict(self, metrics: Iterable[str], weights: Floats) -> tuple[Floats, Floats]:
        """Predict E metrics of mixtures (N, K): means and standard deviations, both (E, N)."""
        pairs = [self._predictor(name)(weights) for name in metrics]
        return np.array([mean for mean, _ in pairs]), np.array([deviation for _, deviation in pairs])

    def _predictor(self, metric: str) -> Predictor:
        if metric not in self._fitted:
            self._fitted[metric] = self._fit_predictor(self.table.weights, self.table.metrics[metric])
        return self._fitted[metric]


class TabulatedLoss:
    """What a mixture is worth by the predictors of a swarm, in the unit of its metrics.

    The target's domains are metrics of the table; its `measure` says nothing here. `standard_error` is the spread
    that the predictors themselves give, metrics taken as independent. Raises `ValueError`.
    """

    def __init__(self, swarm: FittedSwarm, target: Target) -> None:
        missing = [name for name in target.domains if name not in swarm.table.metrics]
        if missing:
            known = ", ".join(swarm.table.metrics)
            raise ValueError(f"the target's {missing[0]!r} is no metric of the table; it has {known}")
        if target.aggregate == "micro":
            raise ValueError("aggregate 'micro' needs token counts, which the table has not; use weighted or macro")
        self._swarm = swarm
        self._target = target
        self.digest = digest_json({"tabulated": swarm.digest, "target": target.digest_parts})

    @property
    def partitions(self) -> tuple[str, ...]:
        """The table's partitions."""
        return self._swarm.table.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Predict a mixture. Raises `NonFiniteLossError`."""
        started = time.perf_counter()
        weights = mixture.over(self.partitions).array
        means, deviations = self._swarm.predict(self._target.domains, weights[None])
        measures, sizes = means[:, 0], np.ones(len(means))
        slopes = self._target.slopes_of(measures, sizes)
        by_name = dict(zip(self._target.domains, measures.tolist(), strict=True))
        return Evaluation(
            mixture,
            value=self._target.value_of(measures, sizes),
            standard_error=math.sqrt(float(slopes**2 @ deviations[:, 0] ** 2)),
            domains={},
            kind="tabulated",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
            violation=max([0.0, *(by_name[name] - ceiling for name, ceiling in self._target.ceilings.items())]),
        )
