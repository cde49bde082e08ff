"""The mixture space: one parameter per partition, and the projection that makes any point of it a mixture.

A point z of the cube [0, 1]^K stands for its Euclidean projection onto the capped simplex
{w : 0 <= w_k <= cap_k, sum w = 1}. Exact zeros come by themselves (this is the subset), caps always hold, and a
mixture is its own parameters: projecting it changes nothing (Duchi et al. 2008, ICML, for the simplex).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import optuna

from pool.mixture import SUM_TOLERANCE, Mixture

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CappedSimplex:
    """The feasible mixtures over K partitions: `caps` (K,) in (0, 1], at most `max_members` weights above zero.

    Raises `ValueError` when nothing is feasible: the largest `max_members` caps sum to less than one.
    """

    names: tuple[str, ...]
    caps: tuple[float, ...]
    max_members: int

    def __post_init__(self) -> None:
        if len(self.caps) != len(self.names):
            raise ValueError(f"one cap per partition: got {len(self.caps)} for {len(self.names)}")
        for name, cap in zip(self.names, self.caps, strict=True):
            if not 0 < cap <= 1:
                raise ValueError(f"the cap of {name!r} must be above 0 and at most 1: got {cap!r}")
        if not 1 <= self.max_members <= len(self.names):
            raise ValueError(f"max_members must be from 1 to {len(self.names)}: got {self.max_members}")
        total = math.fsum(sorted(self.caps, reverse=True)[: self.max_members])
        if total < 1 - SUM_TOLERANCE:
            raise ValueError(
                f"no mixture is feasible: the {self.max_members} largest caps sum to {total:.4g}, which is less "
                "than 1; raise max_epochs, caps or max_members, or lower the training budget"
            )

    @classmethod
    def of(
        cls, names: Sequence[str], *, caps: Mapping[str, float] | None = None, max_members: int | None = None
    ) -> "CappedSimplex":
        """Build with some caps given (the others are 1) and, by default, no limit on members."""
        given = caps or {}
        return cls(
            tuple(names),
            tuple(min(1.0, given.get(name, 1.0)) for name in names),
            len(names) if max_members is None else max_members,
        )

    def project(self, point: npt.ArrayLike) -> Mixture:
        """Project a point (K,) of the cube. With `max_members`, the largest coordinates that can reach 1 stay."""
        z = np.asarray(point, dtype=np.float64)
        kept = self._kept(z)
        weights = np.zeros(len(self.names))
        weights[kept] = project_to_capped_simplex(z[kept], np.array(self.caps)[kept])
        return Mixture.from_array(self.names, weights)

    def contains(self, mixture: Mixture) -> bool:
        """Tell whether a mixture keeps all caps and the limit on members."""
        return bool(np.allclose(self.project(mixture.over(self.names).array).array, mixture.over(self.names).array))

    def parameters(self, mixture: Mixture) -> dict[str, float]:
        """Give the Optuna parameters of a mixture: its weights, after projection where it is not feasible."""
        return self.project(mixture.over(self.names).array).as_dict()

    def suggest(self, trial: optuna.Trial) -> Mixture:
        """Ask a trial for one float in [0, 1] per partition, and project."""
        return self.project([trial.suggest_float(name, 0.0, 1.0) for name in self.names])

    def mixture_of(self, trial: optuna.trial.FrozenTrial) -> Mixture:
        """Recover the mixture that a trial with all its parameters stands for."""
        return self.project([trial.params[name] for name in self.names])

    def _kept(self, z: Weights) -> npt.NDArray[np.int64]:
        order = np.argsort(-z, kind="stable")
        if self.max_members == len(self.names):
            return order
        caps = np.array(self.caps)
        kept: list[int] = []
        for position, candidate in enumerate(order):
            if len(kept) == self.max_members:
                break
            rest = np.delete(order, position)
            rest = rest[~np.isin(rest, kept)]
            best_rest = np.sort(caps[rest])[::-1][: self.max_members - len(kept) - 1].sum()
            if caps[kept].sum() + caps[candidate] + best_rest >= 1 - SUM_TOLERANCE:
                kept.append(int(candidate))
        return np.array(kept, dtype=np.int64)


def project_to_capped_simplex(z: Weights, caps: Weights) -> Weights:
    """Return the w nearest to `z` (K,) with 0 <= w <= caps and sum w = 1; exact, in O(K^2).

    w = clip(z - tau, 0, caps); the sum falls piecewise linearly in tau, with a kink at each z_k and z_k - cap_k,
    so tau is found on the one segment where the sum crosses 1. Needs sum(caps) >= 1.
    """
    kinks = np.unique(np.concatenate([z, z - caps]))
    sums = np.clip(z - kinks[:, None], 0.0, caps).sum(axis=1)
    right = int(np.searchsorted(-sums, -1.0))
    if right == 0:
        at_caps: Weights = caps / caps.sum()  # the caps only just reach 1
        return at_caps
    left = right - 1
    slope = (sums[left] - 1.0) / (sums[left] - sums[right])
    tau = kinks[left] + slope * (kinks[right] - kinks[left])
    weights: Weights = np.clip(z - tau, 0.0, caps)
    free = (weights > 0) & (weights < caps)
    if free.any():
        weights[free] += (1.0 - weights.sum()) / free.sum()
    clipped: Weights = np.clip(weights, 0.0, caps)
    return clipped
