"""Objectives with a formula and a known optimum: strategies are tested on them in milliseconds."""

import time
from collections.abc import Sequence

import numpy as np

from objectives.evaluation import Evaluation
from pool.fingerprint import digest_json
from pool.mixture import Mixture


class QuadraticLoss:
    """L(w) = floor + sum_k c_k (w_k - optimum_k)^2, lowest at `optimum`, a mixture (so also on the simplex).

    The Scheffe quadratic that merges nearly follow to second order around the seed. `curvature` (K,) > 0 nats.
    """

    def __init__(self, optimum: Mixture, curvature: Sequence[float], *, floor: float = 0.0) -> None:
        if len(curvature) != len(optimum.names) or min(curvature) <= 0:
            raise ValueError(f"curvature needs {len(optimum.names)} values above 0: got {list(curvature)!r}")
        self.optimum = optimum
        self._curvature = np.array(curvature, dtype=np.float64)
        self._floor = floor
        self.digest = digest_json(
            {"quadratic": optimum.as_dict(), "curvature": list(map(float, curvature)), "floor": floor}
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        """The optimum's partitions."""
        return self.optimum.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate the formula."""
        return self._evaluation(mixture, with_gradient=False)

    def gradient(self, mixture: Mixture) -> Evaluation:
        """Evaluate the formula and its partial derivatives."""
        return self._evaluation(mixture, with_gradient=True)

    def _evaluation(self, mixture: Mixture, *, with_gradient: bool) -> Evaluation:
        started = time.perf_counter()
        away = mixture.over(self.partitions).array - self.optimum.array
        partials = dict(zip(self.partitions, (2 * self._curvature * away).tolist(), strict=True))
        return Evaluation(
            mixture,
            value=self._floor + float(self._curvature @ away**2),
            standard_error=0.0,
            domains={},
            kind="analytic",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
            gradient=tuple(partials[name] for name in mixture.names) if with_gradient else None,
        )
