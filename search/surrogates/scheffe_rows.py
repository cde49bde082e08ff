"""Observations of a Scheffe quadratic as linear equations, and their covariance under a prior.

L(w) = c + b'w + w'Qw is linear in its coefficients, and so are its values and directional derivatives:

    value at w:            coefficients (1, w, w w')
    derivative at w, z:    coefficients (0, z, z w' + w z')

The last entry is the symmetric part of some p q', so a row is (constant, u, p, q), and no K x K matrix is made. A
gradient gives K - 1 derivatives along the simplex, in Helmert's orthonormal basis. The prior has five independent
groups of coefficients: constant, linear, a diagonal shared by all partitions (most of the curvature of merges), each
partition's own diagonal, and pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import helmert, lapack

from search.surrogates.surrogate import Floats, Observations


@dataclass(frozen=True, eq=False)
class Rows:
    """R linear equations: `constant` (R,), `u`, `p`, `q` (R, K), `target` (R,) and each one's `evaluation` (R,)."""

    constant: Floats
    u: Floats
    p: Floats
    q: Floats
    target: Floats
    evaluation: npt.NDArray[np.int64]

    @classmethod
    def of_values(cls, weights: Floats, values: Floats) -> Rows:
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
        """Tell (R,) values from derivatives."""
        return self.constant > 0

    @property
    def trace(self) -> Floats:
        """The coefficient (R,) of the shared diagonal in each equation."""
        traces: Floats = (self.p * self.q).sum(axis=1)
        return traces


def grams(left: Rows, right: Rows) -> Iterator[Floats]:
    """Yield the (R, S) Gram matrix of each group of coefficients, in the module's order."""
    yield np.outer(left.constant, right.constant)
    yield left.u @ right.u.T
    yield np.outer(left.trace, right.trace)
    own = (left.p * left.q) @ (right.p * right.q).T
    yield own
    crossed = left.p @ right.q.T
    full = (left.p @ right.p.T) * (left.q @ right.q.T) + crossed * (crossed.T if left is right else left.q @ right.p.T)
    yield full / 2 - own


def covariance(left: Rows, right: Rows, group_variances: Floats) -> Floats:
    """Return the sum (R, S) of `grams` times the prior variances (5,), by fewer products.

    All groups but the pairs are products of features, so one product of all features is their sum.
    """
    constant, linear, shared, own, pairs = group_variances
    sizes = np.repeat([constant, linear, shared, own - pairs], [1, left.u.shape[1], 1, left.u.shape[1]])
    total: Floats = (_features(left) * sizes) @ _features(right).T
    product = left.p @ right.p.T
    product *= left.q @ right.q.T
    if right.p is not right.q:  # of values, both products of the pairs are the same
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
        """Sum the rows' coefficients weighted by `dual` (R,), each group times its prior variance (5,)."""
        constant, linear, shared, own, pairs = group_variances
        outer = (rows.p * dual[:, None]).T @ rows.q
        quadratic = pairs * (outer + outer.T) / 2
        np.fill_diagonal(quadratic, shared * float(dual @ rows.trace) + own * (dual @ (rows.p * rows.q)))
        return cls(float(constant * (dual @ rows.constant)), linear * (dual @ rows.u), quadratic)

    def value(self, weights: Floats) -> Floats:
        values: Floats = self.constant + weights @ self.linear + ((weights @ self.quadratic) * weights).sum(axis=1)
        return values
