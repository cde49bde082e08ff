"""Objectives with a formula and a known optimum: strategies are tested on them in milliseconds.

Every formula is convex, so the Karush-Kuhn-Tucker conditions, checked at birth, prove its optimum. `regret` is free of
noise.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from pool.files.digests import digest_arrays, digest_json
from pool.mixture import Mixture

KKT_TOLERANCE = 1e-9
"""Largest violation of the optimality conditions, as a share of the largest partial derivative or of one nat."""


class Formula(ABC):
    """An objective with a formula, in nats per token, and its gradient."""

    challenge = foundation = None
    noise_nats = 0.0

    @property
    @abstractmethod
    def partitions(self) -> tuple[str, ...]:
        """The K partitions."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Digest of everything that decides a value."""

    @abstractmethod
    def exact(self, weights: Floats) -> Floats:
        """Return the noise-free values (N,) of mixtures (N, K) in the order of `partitions`, nats per token."""

    @abstractmethod
    def partials(self, weights: Floats) -> Floats:
        """Return d value / d weight (K,) at a mixture (K,)."""

    def __call__(self, mixture: Mixture) -> Evaluation:
        return self._evaluation(mixture, with_gradient=False)

    def gradient(self, mixture: Mixture) -> Evaluation:
        return self._evaluation(mixture, with_gradient=True)

    def _evaluation(self, mixture: Mixture, *, with_gradient: bool) -> Evaluation:
        started = time.perf_counter()
        weights = mixture.over(self.partitions).array
        partials = dict(zip(self.partitions, self.partials(weights).tolist(), strict=True)) if with_gradient else {}
        return Evaluation(
            mixture,
            value=float(self.exact(weights[None])[0]) + self._noise(mixture),
            standard_error=self.noise_nats,
            domains={},
            kind="analytic",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
            gradient=tuple(partials[name] for name in mixture.names) if with_gradient else None,
        )

    def _noise(self, mixture: Mixture) -> float:
        return 0.0


class AnalyticLoss(Formula):
    """A convex formula over mixtures, lowest at `optimum`, where its value is `best_value`, in nats per token.

    Raises `ValueError` at birth when `optimum` is none.
    """

    def __init__(self, optimum: Mixture, formula_digest: str) -> None:
        self.optimum = optimum
        self.best_value = float(self.exact(optimum.array[None])[0])
        self.noise_nats = 0.0
        self._noise_seed = 0
        self._formula_digest = formula_digest
        partials = self.partials(optimum.array)
        residual = kkt_residual(partials, optimum.array)
        if not residual <= KKT_TOLERANCE * max(1.0, float(np.abs(partials).max())):
            raise ValueError(
                f"{optimum.as_dict()} is not the optimum of this formula: the optimality conditions are off by "
                f"{residual:.3g} nats; build it with `with_optimum`"
            )

    @property
    def partitions(self) -> tuple[str, ...]:
        return self.optimum.names

    @property
    def digest(self) -> str:
        return digest_json({"formula": self._formula_digest, "noise": [self.noise_nats, self._noise_seed]})

    def with_noise(self, noise_nats: float, *, seed: int) -> Self:
        """Return the same formula with normal noise of standard deviation `noise_nats` on its values.

        A mixture's canonical digest and the seed decide its noise, so a mixture keeps its value. Gradients have no
        noise. Raises `ValueError` for noise negative or infinite.
        """
        if not 0 <= noise_nats < float("inf") or seed < 0:
            raise ValueError(f"noise must be finite, and neither it nor its seed below 0: got {noise_nats!r}, {seed!r}")
        noisy = copy(self)
        noisy.noise_nats, noisy._noise_seed = noise_nats, seed
        return noisy

    def _noise(self, mixture: Mixture) -> float:
        if self.noise_nats == 0:
            return 0.0
        rng = np.random.default_rng([self._noise_seed, int(mixture.digest, 16)])
        return self.noise_nats * float(rng.standard_normal())


class QuadraticLoss(AnalyticLoss):
    """L(w) = floor + sum_k c_k (w_k - optimum_k)^2, with `curvature` c (K,) > 0 nats.

    The simplest formula: at its optimum even the unconstrained gradient is zero.
    """

    def __init__(self, optimum: Mixture, curvature: Sequence[float], *, floor: float = 0.0) -> None:
        if len(curvature) != len(optimum.names) or min(curvature) <= 0:
            raise ValueError(f"curvature needs {len(optimum.names)} values above 0: got {list(curvature)!r}")
        self._curvature = np.array(curvature, dtype=np.float64)
        self._floor = floor
        self._center = optimum.array
        parts = {"quadratic": optimum.as_dict(), "curvature": self._curvature.tolist(), "floor": floor}
        super().__init__(optimum, digest_json(parts))

    def exact(self, weights: Floats) -> Floats:
        values: Floats = self._floor + (weights - self._center) ** 2 @ self._curvature
        return values

    def partials(self, weights: Floats) -> Floats:
        slopes: Floats = 2 * self._curvature * (weights - self._center)
        return slopes


def formula_digest(kind: str, names: Sequence[str], *coefficients: Floats) -> str:
    """Digest a formula: its kind, its partitions in order, and its coefficients."""
    return digest_json({kind: list(names), "coefficients": digest_arrays(coefficients)})


def kkt_residual(partials: Floats, weights: Floats) -> float:
    """Return a mixture's largest violation of the optimality conditions on the simplex, nats, >= 0.

    With nu = sum_k w_k g_k: g_k = nu for w_k > 0, and g_k >= nu for w_k = 0 (Nocedal and Wright 2006, theorem 12.1),
    sufficient for a convex function. `partials` g and `weights` w are (K,).
    """
    above = partials - float(weights @ partials)
    return float(np.where(weights > 0, np.abs(above), np.maximum(-above, 0.0)).max())


def regret(objective: AnalyticLoss, mixture: Mixture) -> float:
    """Return the noise-free value of a mixture minus the best value, nats per token, >= 0 up to rounding."""
    return float(objective.exact(mixture.over(objective.partitions).array[None])[0]) - objective.best_value


def one_percent_regret(objective: AnalyticLoss) -> float:
    """Return the unit "1 % regret", nats per token: a hundredth of the regret of the uniform mixture.

    100 % is no search at all, so problems of any size and scale compare. Zero if the uniform mixture is the optimum.
    """
    return regret(objective, Mixture.uniform(objective.partitions)) / 100
