"""Observations of a Scheffe quadratic as linear equations, and their covariance under a prior.

L(w) = c + b'w + w'Qw is linear in its coefficients, and so are its values and directional derivatives:

    value at w:            coefficients (1, w, w w')
    derivative at w, z:    coefficients (0, z, z w' + w z')

The last entry always is the symmetric part of a p', so a row is (constant, u, p, q): no K x K matrix is ever made, and
Gram matrices are products of (R, K) arrays. Of a gradient the K - 1 components along the simplex are kept, in Helmert's
orthonormal basis. Coefficients are independent a priori, in five groups (`GROUPS`): the constant; the linear ones; one
diagonal shared by all partitions (the isotropic curvature of the landscape around its floor, which is what most of the
curvature of merges is); each partition's own diagonal; the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import helmert, lapack

from search.surrogates.surrogate import Floats, Observations

GROUPS = ("constant", "linear", "shared diagonal", "own diagonal", "pairs")


@dataclass(frozen=True, eq=False)
class Rows:
    """R linear equations: `constant` (R,), `u`, `p`, `q` (R, K), `target` (R,) and the `evaluation` (R,) of each."""

    constant: Floats
    u: Floats
    p: Floats
    q: Floats
    target: Floats
    evaluation: npt.NDArray[np.int64]

    @classmethod
    def of_values(cls, weights: Floats, values: Floats) -> Rows:
        """One equation per mixture."""
        return cls(np.ones(len(weights)), weights, weights, weights, values, np.arange(len(weights)))

    @classmethod
    def of(cls, observations: Observations) -> Rows:
        """List the N values first, then K - 1 derivatives for each gradient."""
        values = cls.of_values(observations.weights, observations.values)
        known = np.flatnonzero(observations.differentiated)
        if not len(known):
            return values
        directions = helmert(observations.weights.shape[1])
        z = np.tile(directions, (len(known), 1))
        at = np.repeat(observations.weights[known], len(directions), axis=0)
        slopes = (observations.gradients[known] @ directions.T).ravel()
        return cls(
            np.concatenate([values.constant, np.zeros(len(z))]),
            np.concatenate([values.u, z]),
            np.concatenate([values.p, at]),
            np.concatenate([values.q, 2 * z]),
            np.concatenate([values.target, slopes]),
            np.concatenate([values.evaluation, np.repeat(known, len(directions))]),
        )

    @property
    def is_value(self) -> npt.NDArray[np.bool_]:
        """Tell (R,) which equations are values; the others are derivatives."""
        return self.constant > 0

    @property
    def trace(self) -> Floats:
        """The coefficient (R,) of the shared diagonal in each equation."""
        traces: Floats = (self.p * self.q).sum(axis=1)
        return traces


def grams(left: Rows, right: Rows) -> Iterator[Floats]:
    """Yield the (R, S) Gram matrix of each group of coefficients, in the order of `GROUPS`."""
    yield np.outer(left.constant, right.constant)
    yield left.u @ right.u.T
    yield np.outer(left.trace, right.trace)
    own = (left.p * left.q) @ (right.p * right.q).T
    yield own
    crossed = left.p @ right.q.T
    full = (left.p @ right.p.T) * (left.q @ right.q.T) + crossed * (crossed.T if left is right else left.q @ right.p.T)
    yield full / 2 - own


def covariance(left: Rows, right: Rows, group_variances: Floats) -> Floats:
    """Return the sum (R, S) over groups of their `grams`, each times its prior variance (5,), by fewer products.

    All groups but the pairs' are products of row by row features, so one product of them side by side is their sum.
    """
    constant, linear, shared, own, pairs = group_variances
    sizes = np.repeat([constant, linear, shared, own - pairs], [1, left.u.shape[1], 1, left.u.shape[1]])
    total: Floats = (_features(left) * sizes) @ _features(right).T
    product = left.p @ right.p.T
    product *= left.q @ right.q.T
    if right.p is not right.q:  # where they are values, both products of the pairs are the same
        crossed = left.p @ right.q.T
        product += crossed * (crossed.T if left is right else left.q @ right.p.T)
        product *= 0.5
    product *= pairs
    total += product
    return total


def _features(rows: Rows) -> Floats:
    return np.concatenate([rows.constant[:, None], rows.u, rows.trace[:, None], rows.p * rows.q], axis=1)


def variances(rows: Rows) -> list[Floats]:
    """Return the diagonals (R,) of `grams(rows, rows)`."""
    own = ((rows.p * rows.q) ** 2).sum(axis=1)
    full = (rows.p**2).sum(axis=1) * (rows.q**2).sum(axis=1) + rows.trace**2
    return [rows.constant**2, (rows.u**2).sum(axis=1), rows.trace**2, own, full / 2 - own]


def inverse_of(factor: Floats) -> Floats:
    """Return the inverse of L L' from the lower triangle L (R, R)."""
    lower = lapack.dpotri(factor, lower=1)[0]
    inverse: Floats = np.tril(lower) + np.tril(lower, -1).T
    return inverse


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A Scheffe quadratic: L(w) = `constant` + `linear` (K,) ' w + w' `quadratic` (K, K) w, nats per token."""

    constant: float
    linear: Floats
    quadratic: Floats

    @classmethod
    def from_dual(cls, rows: Rows, group_variances: Floats, dual: Floats) -> Coefficients:
        """Sum the rows' coefficients with the weights `dual` (R,), each group (5,) times its prior variance."""
        constant, linear, shared, own, pairs = group_variances
        outer = (rows.p * dual[:, None]).T @ rows.q
        quadratic = pairs * (outer + outer.T) / 2
        np.fill_diagonal(quadratic, shared * float(dual @ rows.trace) + own * (dual @ (rows.p * rows.q)))
        return cls(float(constant * (dual @ rows.constant)), linear * (dual @ rows.u), quadratic)

    def value(self, weights: Floats) -> Floats:
        """Return L at mixtures (N, K)."""
        values: Floats = self.constant + weights @ self.linear + ((weights @ self.quadratic) * weights).sum(axis=1)
        return values
