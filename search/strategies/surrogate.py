"""Bayesian optimisation on the mixture itself: a Scheffe quadratic, and the mixture of largest expected improvement.

Every few proposals the average of the lowest predicted mixtures comes instead (RegMix, Liu et al. 2024, arXiv
2407.01492).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex, Weights
from search.strategies.strategy import INFORMED_PATIENCE, ReplayingSampler, Strategy
from search.surrogates.surrogate import Floats, Observations, Prediction, fitting_prefix
from search.trials import GRADIENT, value_of

if TYPE_CHECKING:
    from search.surrogates.scheffe import Prior, ScheffeSurrogate

RANDOM_FIRST = 8
"""Evaluations without gradients before the surrogate proposes."""
CANDIDATE_VALUES = 800_000
"""Weights drawn as candidates: 100,000 mixtures of 8 partitions."""
PROJECTED = 2_000
"""Most candidates of a space with bounds: each is projected on its own."""
MOST_EQUATIONS = 800
"""Most equations solved for a proposal: an evaluation is one, or K with its gradient."""
LOOKED_AT = 250
"""Candidates of lowest predicted mean, ranked by expected improvement."""
AVERAGE_EVERY = 4
AVERAGED = 128
LOCAL_ROUNDS = 4
LOCAL_MOVES = 60


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Propose by the surrogate; None, for a random point, from too few trials or if the proposal is not new."""
    observations = evidence_of(trials, space, seed)
    if observations is None:
        return None
    if not observations.differentiated.any() and len(observations) < RANDOM_FIRST:
        return None
    surrogate = fitted(observations)
    average = len(trials) % AVERAGE_EVERY == AVERAGE_EVERY - 1
    point = _average(surrogate, space) if average else most_promising(surrogate, observations, space, seed)
    return point if is_new(point, observations) else None


def evidence_of(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int = 0) -> Observations | None:
    """Collect values and gradients of the completed trials; None from fewer than three.

    Several objectives, each scaled to its range, are summed with random weights from the seed (random scalarisation,
    Paria et al. 2019, arXiv 1805.12168). Losses are nearly convex in the mixture, so sums reach the front.
    """
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if len(done) < 3:
        return None
    weights = space.weights_of_trials(done)
    if len(done[0].values) > 1:
        values = np.array([trial.values for trial in done])
        shares = np.random.default_rng(seed).dirichlet(np.ones(values.shape[1]))
        scaled = (values - values.min(axis=0)) / np.maximum(np.ptp(values, axis=0), 1e-12)
        return Observations.of_values(weights, scaled @ shares)
    gradients = [trial.user_attrs.get(GRADIENT) for trial in done]
    return Observations.of_gradients(weights, [value_of(trial) for trial in done], gradients)


def fitted(observations: Observations) -> ScheffeSurrogate:
    """Fit a Scheffe quadratic, at most `MOST_EQUATIONS` of the lowest evaluations: the next is likely near them.

    The prior is chosen once for each prefix of the evidence.
    """
    from search.surrogates.scheffe import ScheffeSurrogate  # loads scipy.linalg, which reading a study needs not

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
    from search.surrogates.scheffe import fit_prior

    rows = (np.frombuffer(part).reshape(-1, partitions) for part in (weights, gradients))
    return fit_prior(Observations(next(rows), np.frombuffer(values), next(rows)))


def most_promising(surrogate: ScheffeSurrogate, observations: Observations, space: CappedSimplex, seed: int) -> Weights:
    """Return the mixture (K,) of largest expected improvement found: the best candidate, improved by small moves."""
    incumbent = float(observations.values.min())
    rng = np.random.default_rng([seed, len(observations)])
    best, improvement = _best_of(surrogate, _lowest_candidates(surrogate, space, LOOKED_AT), incumbent)
    for number in range(LOCAL_ROUNDS):
        moves = rng.normal(0, 0.1 / 2**number, size=(LOCAL_MOVES, len(best))) * (rng.random((LOCAL_MOVES, 1)) < 0.5)
        moves += rng.normal(0, 0.02 / 2**number, size=moves.shape)
        found, larger = _best_of(surrogate, space.weights_of(best + moves), incumbent)
        best, improvement = (found, larger) if larger > improvement else (best, improvement)
    return best


def _best_of(surrogate: ScheffeSurrogate, candidates: Weights, incumbent: float) -> tuple[Weights, float]:
    improvements = expected_improvement(surrogate.predict(candidates), incumbent)
    at = int(np.argmax(improvements))
    return candidates[at], float(improvements[at])


def _average(surrogate: ScheffeSurrogate, space: CappedSimplex) -> Weights:
    return space.weights(_lowest_candidates(surrogate, space, AVERAGED).mean(axis=0))


def _lowest_candidates(surrogate: ScheffeSurrogate, space: CappedSimplex, count: int) -> Weights:
    candidates = _candidates(space)
    return candidates[np.argsort(surrogate.coefficients.value(candidates), kind="stable")[:count]]


@lru_cache(maxsize=2)
def _candidates(space: CappedSimplex) -> Weights:
    """Draw feasible mixtures (N, K), from sparse to even, always the same for a space."""
    rng = np.random.default_rng(0)
    count, k = CANDIDATE_VALUES // len(space.names), len(space.names)
    count = count if space.is_plain else min(count, PROJECTED)
    concentrations = np.repeat([2 / k, 0.5, 1.0, 3.0], -(-count // 4))[:count]
    drawn = rng.standard_gamma(concentrations[:, None], size=(count, k)) + 1e-12
    weights: Weights = drawn / drawn.sum(axis=1, keepdims=True)
    return weights if space.is_plain else space.weights_of(weights)


def expected_improvement(prediction: Prediction, incumbent: float) -> Floats:
    """E[max(incumbent - value, 0)] under normal predictions (N,) (Jones, Schonlau and Welch 1998, eq. 15)."""
    from scipy.special import ndtr  # the same digits as scipy.stats.norm, which loads for a second

    deviation = np.maximum(prediction.deviation, 1e-12)
    z = (incumbent - prediction.mean) / deviation
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    improvement: Floats = deviation * (z * ndtr(z) + density)
    return improvement


def is_new(weights: Weights, observations: Observations) -> bool:
    """Tell whether no evaluated mixture is this one (K,)."""
    return bool(np.abs(observations.weights - weights).max(axis=1).min() > 1e-6)


SURROGATE = Strategy(
    "surrogate",
    partial(ReplayingSampler, propose=propose),
    pruned_trials="elsewhere",
    several=True,
    patience=INFORMED_PATIENCE,
    settings={"random_first": RANDOM_FIRST, "average_every": AVERAGE_EVERY, "averaged": AVERAGED},
)
