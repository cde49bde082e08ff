"""What proposals by a surrogate share: the evidence of a study, candidates of a space, expected improvement."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm

from search.space import CappedSimplex, Weights
from search.surrogates.scheffe import Prior, ScheffeSurrogate, fit_prior
from search.surrogates.surrogate import Floats, Observations, Prediction, fitting_prefix
from search.trials import GRADIENT, value_of

CANDIDATE_VALUES = 800_000
"""Weights drawn as candidates: 100,000 mixtures of 8 partitions."""
PROJECTED = 2_000
"""Most candidates of a space with bounds: each is projected on its own."""
MOST_EQUATIONS = 800
"""Most equations that a proposal solves: an evaluation is one, with its gradient K."""


def evidence_of(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int = 0) -> Observations | None:
    """Collect values and gradients of the completed trials; None where there are fewer than three.

    Several objectives, each scaled to its range, are summed with random weights from the seed: one proposal after the
    other looks at another part of the front (random scalarisation, Paria et al. 2019, arXiv 1805.12168). The losses
    are convex in the mixture but for little, so that weighted sums reach the front.
    """
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if len(done) < 3:
        return None
    weights = space.weights_of_trials(done)
    if len(done[0].values) > 1:
        return Observations.of_values(weights, _scalarised(np.array([trial.values for trial in done]), seed))
    gradients = [trial.user_attrs.get(GRADIENT) for trial in done]
    return Observations.of_gradients(weights, [value_of(trial) for trial in done], gradients)


def _scalarised(values: Floats, seed: int) -> Floats:
    shares = np.random.default_rng(seed).dirichlet(np.ones(values.shape[1]))
    scaled: Floats = (values - values.min(axis=0)) / np.maximum(np.ptp(values, axis=0), 1e-12) @ shares
    return scaled


def fitted(observations: Observations) -> ScheffeSurrogate:
    """Fit a Scheffe quadratic; its prior is chosen once for each prefix of the evidence.

    Where there are more than `MOST_EQUATIONS`, only the evaluations with the lowest values are looked at: they are
    where the next one will be, too.
    """
    start = observations.take(slice(fitting_prefix(len(observations))))
    parts = (start.weights, start.values, start.gradients)
    surrogate = ScheffeSurrogate(_prior_of(start.weights.shape[1], *(part.tobytes() for part in parts)))
    per_evaluation = np.where(observations.differentiated, observations.weights.shape[1], 1)
    order = np.argsort(observations.values, kind="stable")
    kept = order[np.cumsum(per_evaluation[order]) <= max(MOST_EQUATIONS, 3 * per_evaluation.max())]
    surrogate.fit(observations.take(np.sort(kept)))
    return surrogate


@lru_cache(maxsize=8)
def _prior_of(partitions: int, weights: bytes, values: bytes, gradients: bytes) -> Prior:
    rows = (np.frombuffer(part).reshape(-1, partitions) for part in (weights, gradients))
    return fit_prior(Observations(next(rows), np.frombuffer(values), next(rows)))


@lru_cache(maxsize=2)
def candidates_of(space: CappedSimplex, seed: int) -> Weights:
    """Draw feasible mixtures (N, K), from sparse to even, always the same ones for a seed."""
    rng = np.random.default_rng(seed)
    count, k = CANDIDATE_VALUES // len(space.names), len(space.names)
    count = count if space.is_plain else min(count, PROJECTED)
    concentrations = np.repeat([2 / k, 0.5, 1.0, 3.0], -(-count // 4))[:count]
    drawn = rng.standard_gamma(concentrations[:, None], size=(count, k)) + 1e-12
    weights: Weights = drawn / drawn.sum(axis=1, keepdims=True)
    return weights if space.is_plain else space.weights_of(weights)


def expected_improvement(prediction: Prediction, incumbent: float) -> Floats:
    """E[max(incumbent - value, 0)] under normal predictions (N,) (Jones, Schonlau and Welch 1998, eq. 15)."""
    deviation = np.maximum(prediction.deviation, 1e-12)
    z = (incumbent - prediction.mean) / deviation
    improvement: Floats = deviation * (z * norm.cdf(z) + norm.pdf(z))
    return improvement


def is_new(weights: Weights, observations: Observations) -> bool:
    """Tell whether a mixture (K,) is none that was evaluated."""
    return bool(np.abs(observations.weights - weights).max(axis=1).min() > 1e-6)
