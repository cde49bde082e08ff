"""The mixture space: one parameter per partition, and the projection of any point to a mixture.

A point z of the cube [0, 1]^K stands for its Euclidean projection onto the capped simplex
{w : floor_k <= w_k <= cap_k, sum w = 1}. The projection gives exact zeros (the subset) and leaves a mixture alone, so
a mixture is its own parameters (Duchi et al. 2008, ICML, for the simplex).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import FloatDistribution

from pool.mixture import SUM_TOLERANCE, Mixture

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CappedSimplex:
    """The feasible mixtures over K partitions: `floors` <= w <= `caps` (K,), at most `max_members` weights above zero.

    A partition excluded (cap 0) or fixed (floor = cap) has no Optuna parameter. Raises `ValueError` if nothing is
    feasible.
    """

    names: tuple[str, ...]
    caps: tuple[float, ...]
    max_members: int
    floors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.floors:
            object.__setattr__(self, "floors", (0.0,) * len(self.names))
        self._check_bounds()
        if not 1 <= self.max_members <= len(self.names):
            raise ValueError(f"max_members must be from 1 to {len(self.names)}: got {self.max_members}")
        self._check_floors()
        self._check_caps()

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        *,
        caps: Mapping[str, float] | None = None,
        floors: Mapping[str, float] | None = None,
        max_members: int | None = None,
    ) -> CappedSimplex:
        """Build with some caps and floors (the others are 1 and 0), by default without a limit on members."""
        above, below = caps or {}, floors or {}
        return cls(
            tuple(names),
            tuple(min(1.0, above.get(name, 1.0)) for name in names),
            len(names) if max_members is None else max_members,
            tuple(below.get(name, 0.0) for name in names),
        )

    @cached_property
    def allowed(self) -> tuple[str, ...]:
        return tuple(name for name, cap in zip(self.names, self.caps, strict=True) if cap > 0)

    @cached_property
    def free(self) -> tuple[str, ...]:
        """The partitions with a parameter: neither fixed nor excluded."""
        bounds = zip(self.names, self.floors, self.caps, strict=True)
        return tuple(name for name, floor, cap in bounds if floor < cap)

    @cached_property
    def distributions(self) -> dict[str, FloatDistribution]:
        return {name: FloatDistribution(0.0, 1.0) for name in self.free}

    def project(self, point: npt.ArrayLike) -> Mixture:
        """Project a point (K,). `max_members` keeps floors, then the largest coordinates that can still sum to 1."""
        return Mixture.from_array(self.names, self.weights(np.asarray(point, dtype=np.float64)))

    def weights(self, z: Weights) -> Weights:
        """Return the weights (K,) of a projected point (K,)."""
        if self.is_plain:
            plain: Weights = project_to_simplex(z[None])[0]
            return plain
        kept = self._kept(z)
        floors, caps = self._floor_array, self._cap_array
        total = 1.0 - floors.sum()
        weights = floors.copy()
        weights[kept] += project_to_capped_simplex((z - floors)[kept], (caps - floors)[kept], total)
        clipped: Weights = np.clip(weights, floors, caps)
        return clipped

    def weights_of(self, points: Weights) -> Weights:
        """Return the weights (N, K) of projected points (N, K)."""
        return project_to_simplex(points) if self.is_plain else np.stack([self.weights(point) for point in points])

    @cached_property
    def is_plain(self) -> bool:
        return min(self.caps) == 1 and max(self.floors) == 0 and self.max_members == len(self.names)

    def contains(self, mixture: Mixture) -> bool:
        return bool(np.allclose(self.project(mixture.over(self.names).array).array, mixture.over(self.names).array))

    def parameters(self, mixture: Mixture) -> dict[str, float]:
        """Give the Optuna parameters of a mixture: its free weights, projected."""
        return self.parameters_of(self.project(mixture.over(self.names).array).array)

    def parameters_of(self, point: Weights) -> dict[str, float]:
        """Give the Optuna parameters of a point (K,) of the cube; coordinates outside it are clipped."""
        coordinates = dict(zip(self.names, np.clip(point, 0.0, 1.0).tolist(), strict=True))
        return {name: coordinates[name] for name in self.free}

    def point_of(self, parameters: Mapping[str, float]) -> Weights:
        """Return the point (K,) of the cube with these parameters; fixed weights stand for themselves."""
        free = set(self.free)
        bounds = zip(self.names, self.floors, strict=True)
        return np.array([parameters[name] if name in free else floor for name, floor in bounds], dtype=np.float64)

    def suggest(self, trial: optuna.Trial) -> Mixture:
        """Suggest the mixture of a trial: one float for each free partition, projected."""
        return self.project(self.point_of({name: trial.suggest_float(name, 0.0, 1.0) for name in self.free}))

    def stands_for_mixture(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Tell whether a trial has all its parameters, unlike a trial being proposed."""
        return all(name in trial.params for name in self.free)

    def mixture_of(self, trial: optuna.trial.FrozenTrial) -> Mixture:
        """Recover the mixture of a trial with all its parameters."""
        return _recovered(self, self._read(trial.params))

    def weights_of_trials(self, trials: Sequence[optuna.trial.FrozenTrial]) -> Weights:
        """Recover the weights (N, K) of N >= 1 trials."""
        return np.stack([_recovered_weights(self, self._read(trial.params)) for trial in trials])

    def _read(self, parameters: Mapping[str, float]) -> tuple[float, ...]:
        if len(self.free) < 2:
            return tuple(parameters[name] for name in self.free)
        read: tuple[float, ...] = self._reader(parameters)
        return read

    @cached_property
    def _reader(self) -> itemgetter[Any]:
        return itemgetter(*self.free)

    def _check_bounds(self) -> None:
        for kind, bounds in (("cap", self.caps), ("floor", self.floors)):
            if len(bounds) != len(self.names):
                raise ValueError(f"one {kind} per partition: got {len(bounds)} for {len(self.names)}")
        for name, floor, cap in zip(self.names, self.floors, self.caps, strict=True):
            if not 0 <= cap <= 1:
                raise ValueError(f"the cap of {name!r} must be from 0 to 1: got {cap!r}")
            if not 0 <= floor <= cap:
                raise ValueError(
                    f"the floor of {name!r} must be from 0 to its cap {cap:.4g}: got {floor:.4g}; lower the floor or "
                    "fixed weight, or raise the cap or max_epochs"
                )

    def _check_floors(self) -> None:
        total = math.fsum(self.floors)
        if total > 1 + SUM_TOLERANCE:
            raise ValueError(
                f"no mixture is feasible: floors and fixed weights sum to {total:.4g}, which is more than 1; lower them"
            )
        floored = self._floored()
        if len(floored) > self.max_members:
            raise ValueError(
                f"no mixture is feasible: {len(floored)} partitions have a floor or a fixed weight "
                f"({', '.join(self.names[k] for k in floored)}), but max_members is {self.max_members}; raise it, or "
                "take floors away"
            )

    def _check_caps(self) -> None:
        floored = self._floored()
        others = sorted((cap for k, cap in enumerate(self.caps) if k not in floored), reverse=True)
        total = math.fsum([*(self.caps[k] for k in floored), *others[: self.max_members - len(floored)]])
        if total < 1 - SUM_TOLERANCE:
            those = "largest caps" if not floored else "caps that count (those with a floor first, then the largest)"
            raise ValueError(
                f"no mixture is feasible: the {self.max_members} {those} sum to {total:.4g}, which is less "
                "than 1; raise max_epochs, caps, fixed weights or max_members, exclude less, or lower the training "
                "budget"
            )

    @cached_property
    def _floor_array(self) -> Weights:
        return np.array(self.floors)

    @cached_property
    def _cap_array(self) -> Weights:
        return np.array(self.caps)

    def _floored(self) -> list[int]:
        return [k for k, floor in enumerate(self.floors) if floor > 0]

    def _kept(self, z: Weights) -> npt.NDArray[np.int64]:
        order = np.argsort(-z, kind="stable")
        if self.max_members >= len(self.allowed):
            return order
        caps = np.array(self.caps)
        kept = self._floored()
        for candidate in order:
            if len(kept) == self.max_members:
                break
            rest = order[~np.isin(order, [*kept, candidate])]
            best_rest = np.sort(caps[rest])[::-1][: self.max_members - len(kept) - 1].sum()
            reachable = caps[kept].sum() + caps[candidate] + best_rest >= 1 - SUM_TOLERANCE
            if candidate not in kept and caps[candidate] > 0 and reachable:
                kept.append(int(candidate))
        return np.array(kept, dtype=np.int64)


@lru_cache(maxsize=2**15)
def _recovered(space: CappedSimplex, free: tuple[float, ...]) -> Mixture:
    """Project once: every step asks for the mixtures of all trials."""
    return space.project(space.point_of(dict(zip(space.free, free, strict=True))))


@lru_cache(maxsize=20_000)
def _recovered_weights(space: CappedSimplex, free: tuple[float, ...]) -> Weights:
    return _recovered(space, free).array


def project_to_simplex(points: Weights) -> Weights:
    """Return the nearest mixtures (N, K) to points (N, K): sorted and thresholded (Duchi et al. 2008, figure 1)."""
    ordered = -np.sort(-points, axis=1)
    excess = (np.cumsum(ordered, axis=1) - 1) / np.arange(1, points.shape[1] + 1)
    last = points.shape[1] - 1 - np.argmax((ordered > excess)[:, ::-1], axis=1)
    projected: Weights = np.maximum(points - excess[np.arange(len(points)), last][:, None], 0.0)
    return projected


def project_to_capped_simplex(z: Weights, caps: Weights, total: float = 1.0) -> Weights:
    """Return the w nearest to `z` (K,) with 0 <= w <= caps and sum w = `total`; exact, in O(K log K).

    w = clip(z - tau, 0, caps). The sum is piecewise linear in tau with a kink at each z_k and z_k - cap_k, so tau lies
    on the one segment crossing the total. Needs sum(caps) >= total.
    """
    if total <= 0 or not caps.any():
        return np.zeros_like(caps)
    kinks, sums = _sums_at_kinks(z, caps)
    right = int(np.searchsorted(-sums, -total))
    if right == 0:
        at_caps: Weights = caps * (total / caps.sum())  # the caps only just reach the total
        return at_caps
    right = min(right, len(sums) - 1)
    left = right - 1
    slope = (sums[left] - total) / (sums[left] - sums[right])
    tau = kinks[left] + slope * (kinks[right] - kinks[left])
    weights: Weights = np.clip(z - tau, 0.0, caps)
    free = (weights > 0) & (weights < caps)
    if free.any():
        weights[free] += (total - weights.sum()) / free.sum()
    clipped: Weights = np.clip(weights, 0.0, caps)
    return clipped


def _sums_at_kinks(z: Weights, caps: Weights) -> tuple[Weights, Weights]:
    """Return the sorted kinks tau (2K,) of sum clip(z - tau, 0, caps), and the sum at each of them."""
    ends = np.concatenate([z - caps, z])  # a weight begins to fall at the first, and has come to 0 at the second
    order = np.argsort(ends, kind="stable")
    kinks = ends[order]
    falling = np.cumsum(np.where(order < len(z), 1.0, -1.0))
    drops = np.cumsum(falling[:-1] * np.diff(kinks))
    return kinks, caps.sum() - np.concatenate([[0.0], drops])
