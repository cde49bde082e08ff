"""The laws that mixtures have been found to follow, as objectives with a known optimum.

Scheffe's quadratic is what merges nearly follow, the linear law its simplest case, the exponential law what really
trained models follow. `with_optimum` takes coefficients that are free to choose and solves for the others, so that
the optimality conditions hold at a given mixture to rounding: no numerical optimisation is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from objectives.held_out import Floats
from objectives.stand_ins.analytic import AnalyticLoss, formula_digest
from pool.mixture import Mixture


class ScheffeLoss(AnalyticLoss):
    """L(w) = b'w + w'Qw, with b `linear` (K,) and Q `quadratic` (K, K), symmetric and positive semidefinite.

    The canonical mixture polynomial of degree two (Scheffe 1958, J. R. Stat. Soc. B 20). Raises `ValueError`.
    """

    def __init__(self, optimum: Mixture, linear: Floats, quadratic: Floats) -> None:
        count = len(optimum.names)
        if linear.shape != (count,) or quadratic.shape != (count, count):
            raise ValueError(f"expected shapes {(count,)} and {(count, count)}: got {linear.shape}, {quadratic.shape}")
        eigenvalues = np.linalg.eigvalsh(quadratic)
        if not np.array_equal(quadratic, quadratic.T) or eigenvalues[0] < -1e-10 * max(1.0, eigenvalues[-1]):
            raise ValueError(f"Q must be symmetric, its eigenvalues >= 0: the least of them is {eigenvalues[0]:.3g}")
        self._linear, self._quadratic = linear.copy(), quadratic.copy()
        super().__init__(optimum, formula_digest("scheffe", optimum.names, linear, quadratic))

    @classmethod
    def with_optimum(
        cls, optimum: Mixture, quadratic: Floats, multipliers: Floats, *, best_value: float
    ) -> ScheffeLoss:
        """Solve for b so that `optimum` w* is exact: b = nu + mu - 2 Q w*, with nu = best_value + w*'Q w*.

        mu `multipliers` (K,) > 0 is what weight on a partition costs at the optimum; it counts only where w* is zero.
        On the simplex this is L(w) = best_value + mu'w + (w - w*)'Q(w - w*). Raises `ValueError`.
        """
        best = optimum.array
        nu = best_value + float(best @ quadratic @ best)
        linear = nu + _on_zeros(multipliers, optimum) - 2 * quadratic @ best
        return cls(optimum, linear, quadratic)

    def exact(self, weights: Floats) -> Floats:
        """Return b'w + w'Qw."""
        values: Floats = weights @ self._linear + ((weights @ self._quadratic) * weights).sum(axis=1)
        return values

    def partials(self, weights: Floats) -> Floats:
        """Return b + 2 Q w."""
        slopes: Floats = self._linear + 2 * self._quadratic @ weights
        return slopes


class LinearLawLoss(AnalyticLoss):
    """L(w) = b'w, with b `slopes` (K,): each partition's own loss, weighted. Lowest at a vertex, the first of equals.

    Raises `ValueError`.
    """

    def __init__(self, partitions: Sequence[str], slopes: Floats) -> None:
        if slopes.shape != (len(partitions),):
            raise ValueError(f"expected one slope for each of {len(partitions)} partitions: got {slopes.shape}")
        self._slopes = slopes.copy()
        optimum = Mixture.vertex(partitions, partitions[int(np.argmin(slopes))])
        super().__init__(optimum, formula_digest("linear", partitions, slopes))

    def exact(self, weights: Floats) -> Floats:
        """Return b'w."""
        values: Floats = weights @ self._slopes
        return values

    def partials(self, weights: Floats) -> Floats:
        """Return b."""
        return self._slopes.copy()


class ExponentialLawLoss(AnalyticLoss):
    """L(w) = c + sum_e exp(a_e + t_e'w) over E held-out domains, with a `levels` (E,) and t `slopes` (E, K).

    Ye et al. 2024 (arXiv 2403.16952), the domains' offsets and their weights in the target taken
    into `offset` c and the levels. Convex whatever the slopes. Raises `ValueError`.
    """

    def __init__(self, optimum: Mixture, offset: float, levels: Floats, slopes: Floats) -> None:
        if levels.ndim != 1 or slopes.shape != (len(levels), len(optimum.names)):
            raise ValueError(
                f"expected levels (E,) and slopes (E, {len(optimum.names)}): got {levels.shape}, {slopes.shape}"
            )
        self._offset, self._levels, self._slopes = offset, levels.copy(), slopes.copy()
        digest = formula_digest("exponential", optimum.names, np.array([offset]), levels, slopes)
        super().__init__(optimum, digest)

    @classmethod
    def with_optimum(
        cls, optimum: Mixture, slopes: Floats, excess: Floats, multipliers: Floats, *, best_value: float
    ) -> ExponentialLawLoss:
        """Solve for offset and levels so that `optimum` w* is exact, and shift the slopes.

        `excess` y (E,) > 0 is what each domain is above its offset at w*, nats: a_e = log y_e - t_e'w*. The slopes
        keep their differences between domains: from every t_e the same vector d (K,) is taken, such that the gradient
        T'y = 1 nu + mu, that is d = (T'y - 1 nu - mu) / sum_e y_e. `multipliers` mu as for `ScheffeLoss`.
        """
        if not (excess > 0).all():
            raise ValueError(f"the domains' excess must be above 0: the least of it is {excess.min():.3g}")
        pull = slopes.T @ excess
        nu = float(optimum.array @ pull)
        shifted = slopes - (pull - nu - _on_zeros(multipliers, optimum)) / excess.sum()
        levels = np.log(excess) - shifted @ optimum.array
        return cls(optimum, best_value - float(excess.sum()), levels, shifted)

    def exact(self, weights: Floats) -> Floats:
        """Return c + sum_e exp(a_e + t_e'w)."""
        values: Floats = self._offset + np.exp(self._levels + weights @ self._slopes.T).sum(axis=1)
        return values

    def partials(self, weights: Floats) -> Floats:
        """Return sum_e t_e exp(a_e + t_e'w)."""
        slopes: Floats = np.exp(self._levels + self._slopes @ weights) @ self._slopes
        return slopes


def _on_zeros(multipliers: Floats, optimum: Mixture) -> Floats:
    """Return the multipliers (K,), zero where the optimum has weight: complementary slackness."""
    zeros = optimum.array == 0
    if multipliers.shape != zeros.shape or not (multipliers[zeros] > 0).all():
        raise ValueError(f"expected {len(zeros)} multipliers, above 0 wherever the optimum has no weight")
    kept: Floats = np.where(zeros, multipliers, 0.0)
    return kept
