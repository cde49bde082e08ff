"""Scheffe quadratic: L(w) = c + b'w + w'Qw, a Bayesian linear regression on values and gradients.

Merges nearly follow it. An evaluation with its gradient is K equations, so the K (K + 1) / 2 coefficients that can be
told apart on the simplex need about K / 2 of them; before that the prior decides. Solved in the dual, one unknown per
equation (Rasmussen and Williams 2006, section 2.2). Leave-one-out predictions leave out a whole evaluation, its value
and its gradient together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from search.surrogates.scheffe_prior import Prior, fit_prior
from search.surrogates.scheffe_rows import Coefficients, Rows, covariance, inverse_of, variances
from search.surrogates.surrogate import Floats, Observations, Prediction, check_family, fitting_prefix

_CHUNK = 4_000_000
"""Entries of the largest matrix made while predicting: 32 MB."""


@dataclass(frozen=True, eq=False)
class _Posterior:
    """R equations solved under a prior: the Cholesky `factor` (R, R) of their covariance, and the `dual` (R,)."""

    prior: Prior
    rows: Rows
    factor: Floats
    dual: Floats

    @classmethod
    def of(cls, prior: Prior, rows: Rows) -> _Posterior:
        prior_covariance = covariance(rows, rows, prior.variances)
        np.einsum("ii->i", prior_covariance)[:] += prior.noise(rows)
        factor = cholesky(prior_covariance, lower=True, overwrite_a=True)
        return cls(prior, rows, factor, cho_solve((factor, True), prior.residuals(rows)))

    @cached_property
    def coefficients(self) -> Coefficients:
        """The posterior mean."""
        return self.prior.restore(Coefficients.from_dual(self.rows, self.prior.variances, self.dual))

    def deviation(self, weights: Floats) -> Floats:
        """Return the predictive deviation (N,) of values at mixtures (N, K), noise included."""
        asked = Rows.of_values(weights, np.zeros(len(weights)))
        cross = covariance(self.rows, asked, self.prior.variances)
        explained = (solve_triangular(self.factor, cross, lower=True, overwrite_b=True) ** 2).sum(axis=0)
        left = np.maximum(self.prior.variances @ np.array(variances(asked)) - explained, 0.0)
        deviations: Floats = self.prior.unit * np.sqrt(left + self.prior.value_noise)
        return deviations


class ScheffeSurrogate:
    """A Scheffe quadratic that uses gradients where there are any.

    Under a given prior, or else under one that is chosen again as the evidence grows.
    """

    def __init__(self, prior: Prior | None = None) -> None:
        self._given = prior
        self._prior: tuple[int, Prior] | None = None
        self._posterior: _Posterior | None = None
        self._observations: Observations | None = None

    @property
    def coefficients(self) -> Coefficients:
        """The posterior mean of the quadratic: the cheap way to value very many mixtures. Raises `RuntimeError`."""
        return self._ready().coefficients

    def fit(self, observations: Observations) -> None:
        """Solve for the coefficients; the prior's scales come from a prefix of the evidence."""
        self._posterior = _Posterior.of(self._given or self._chosen(observations), Rows.of(observations))
        self._observations = observations

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K); the deviations cost R^2 each, R the number of equations."""
        posterior = self._ready()
        parts = np.array_split(weights, max(1, len(weights) * len(posterior.dual) // _CHUNK))
        deviation = np.concatenate([posterior.deviation(part) for part in parts])
        return Prediction(posterior.coefficients.value(weights), deviation)

    def out_of_fold(self) -> Prediction:
        """Predict each evaluation (N,) from all the others, at the same prior."""
        return _leave_out(self._ready())

    def as_numbers(self) -> dict[str, object]:
        """Give prior, evidence and coefficients in JSON's types."""
        posterior, coefficients = self._ready(), self.coefficients
        assert self._observations is not None
        return {
            "family": "scheffe",
            "prior": [posterior.prior.center, posterior.prior.unit, *posterior.prior.log_scales.tolist()],
            "constant": coefficients.constant,
            "linear": coefficients.linear.tolist(),
            "quadratic": coefficients.quadratic.tolist(),
            **self._observations.as_numbers(),
        }

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> Self:
        """Solve again under the prior that `as_numbers` gave: the same predictions. Raises `ValueError`, `KeyError`."""
        check_family(numbers, "scheffe")
        center, unit, *log_scales = np.array(numbers["prior"], dtype=np.float64).tolist()
        surrogate = cls(Prior(center, unit, np.array(log_scales)))
        surrogate.fit(Observations.from_numbers(numbers))
        return surrogate

    def _chosen(self, observations: Observations) -> Prior:
        prefix = fitting_prefix(len(observations))
        if self._prior is None or self._prior[0] != prefix:
            self._prior = (prefix, fit_prior(observations.take(slice(prefix))))
        return self._prior[1]

    def _ready(self) -> _Posterior:
        if self._posterior is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._posterior


def _leave_out(posterior: _Posterior) -> Prediction:
    """Leave out each evaluation's equations B: mean_B = y_B - S [C^-1 y]_B, covariance S = ([C^-1]_BB)^-1."""
    prior, rows = posterior.prior, posterior.rows
    count, inverse = int(rows.is_value.sum()), inverse_of(posterior.factor)
    errors, deviations = np.empty(count), np.empty(count)
    for evaluation in range(count):
        block = np.flatnonzero(rows.evaluation == evaluation)
        covariance = np.linalg.inv(inverse[np.ix_(block, block)])
        errors[evaluation] = covariance[0] @ posterior.dual[block]
        deviations[evaluation] = np.sqrt(covariance[0, 0])
    return Prediction(rows.target[:count] - prior.unit * errors, prior.unit * deviations)
