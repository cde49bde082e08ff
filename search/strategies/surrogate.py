"""Bayesian optimisation on the mixture itself: a Scheffe quadratic, and the mixture of largest expected improvement.

Many sampled mixtures are valued by the quadratic's mean, the best of them by expected improvement, and the very best
improved by small moves. Every few proposals it is the average of the mixtures predicted to be best instead (RegMix, Liu
et al. 2024, arXiv 2407.01492). Gradients are used where the study has any. Several objectives are summed with weights
that are drawn for every proposal.
"""

from collections.abc import Sequence

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.space import CappedSimplex, Weights
from search.strategies.strategy import INFORMED_PATIENCE, ReplayingSampler, Strategy
from search.strategies.surrogate import candidates_of, evidence_of, expected_improvement, fitted, is_new
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Observations

RANDOM_FIRST = 8
"""Evaluations without gradients before the surrogate says anything."""
LOOKED_AT = 250
"""Candidates of lowest predicted mean whose expected improvement is computed."""
AVERAGE_EVERY = 4
AVERAGED = 128
LOCAL_ROUNDS = 4
LOCAL_MOVES = 60


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Propose by what the trials say; None, for a random point, while they say too little or nothing new."""
    observations = evidence_of(trials, space, seed)
    if observations is None:
        return None
    if not observations.differentiated.any() and len(observations) < RANDOM_FIRST:
        return None
    surrogate = fitted(observations)
    average = len(trials) % AVERAGE_EVERY == AVERAGE_EVERY - 1
    point = _average(surrogate, space) if average else most_promising(surrogate, observations, space, seed)
    return point if is_new(point, observations) else None


def most_promising(surrogate: ScheffeSurrogate, observations: Observations, space: CappedSimplex, seed: int) -> Weights:
    """Return the mixture (K,) of largest expected improvement that was found."""
    incumbent = float(observations.values.min())
    rng = np.random.default_rng([seed, len(observations)])
    candidates = candidates_of(space, 0)
    order = np.argsort(surrogate.coefficients.value(candidates), kind="stable")[:LOOKED_AT]
    best, improvement = _best_of(surrogate, candidates[order], incumbent)
    for round_ in range(LOCAL_ROUNDS):
        moves = rng.normal(0, 0.1 / 2**round_, size=(LOCAL_MOVES, len(best))) * (rng.random((LOCAL_MOVES, 1)) < 0.5)
        moves += rng.normal(0, 0.02 / 2**round_, size=moves.shape)
        near = space.weights_of(best + moves)
        found, larger = _best_of(surrogate, near, incumbent)
        best, improvement = (found, larger) if larger > improvement else (best, improvement)
    return best


def _best_of(surrogate: ScheffeSurrogate, candidates: Weights, incumbent: float) -> tuple[Weights, float]:
    improvements = expected_improvement(surrogate.predict(candidates), incumbent)
    at = int(np.argmax(improvements))
    return candidates[at], float(improvements[at])


def _average(surrogate: ScheffeSurrogate, space: CappedSimplex) -> Weights:
    candidates = candidates_of(space, 0)
    order = np.argsort(surrogate.coefficients.value(candidates), kind="stable")[:AVERAGED]
    return space.weights(candidates[order].mean(axis=0))


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the surrogate sampler."""
    return ReplayingSampler(space, seed, propose)


SURROGATE = Strategy(
    "surrogate",
    make,
    pruned_trials="elsewhere",
    several=True,
    patience=INFORMED_PATIENCE,
    settings={"random_first": RANDOM_FIRST, "average_every": AVERAGE_EVERY, "averaged": AVERAGED},
)
