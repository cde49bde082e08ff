"""What to use when in doubt: descent on a model of the loss where there are gradients, else the surrogate.

With gradients each proposal is the minimum, over the space, of a Scheffe quadratic fitted to all values and gradients,
held back by a proximal term around the best mixture: loosened after every improvement, tightened after every failure,
so that at worst it is a short projected gradient step. On a quadratic loss it needs about as many evaluations as
partitions in use. Once it has converged it explores by expected improvement.
"""

from collections.abc import Sequence

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex, Weights
from search.strategies import surrogate
from search.strategies.proposals import evidence_of, fitted, is_new
from search.strategies.replaying import ReplayingSampler
from search.strategies.strategy import Strategy
from search.surrogates.scheffe_rows import Coefficients
from search.surrogates.surrogate import Observations
from search.trials import GRADIENT, START, value_of

FIRST_MOVE = 0.3
"""Largest change of a weight while there is a single gradient."""
TIGHTEN = 4.0
FIRST_HOLD = 0.25
LARGEST_HOLD = 300.0
"""Bounds of the proximal term, as multiples of the model's largest curvature."""
CONVERGED_MOVE = 1e-3
STEPS = 300


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Propose the next step of the descent, or by expected improvement where there is none to make."""
    gradients = [trial for trial in trials if trial.state is TrialState.COMPLETE and GRADIENT in trial.user_attrs]
    if not gradients:
        return surrogate.propose(trials, space, seed)
    observations = evidence_of(trials, space)
    if observations is None:
        return _first_step(gradients, space)
    hold = _hold(trials)
    best = observations.weights[int(np.argmin(observations.values))]
    point = minimum(fitted(observations).coefficients, best, hold, space)
    if hold <= LARGEST_HOLD and np.abs(point - best).max() >= CONVERGED_MOVE and is_new(point, observations):
        return point
    return _explore(observations, space, seed)


def minimum(model: Coefficients, best: Weights, hold: float, space: CappedSimplex) -> Weights:
    """Minimise model(w) + hold * curvature / 2 * |w - best|^2 over the space, by accelerated projected gradient.

    Beck and Teboulle 2009 (FISTA), restarted when it turns uphill (O'Donoghue and Candes 2015).
    """
    curvature = 2 * float(np.linalg.norm(model.quadratic, 2)) + 1e-12
    step = 1 / (curvature * (1 + hold))
    w, y, momentum = best, best, 1.0
    for _ in range(STEPS):
        slope = model.linear + 2 * model.quadratic @ y + hold * curvature * (y - best)
        ahead = space.project(y - step * slope).array
        if slope @ (ahead - w) > 0:
            y, momentum = ahead, 1.0
        else:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            y, momentum = ahead + (momentum - 1) / following * (ahead - w), following
        moved = np.abs(ahead - w).max()
        w = ahead
        if moved < 1e-7:
            break
    return w


def _first_step(gradients: Sequence[FrozenTrial], space: CappedSimplex) -> Weights:
    """Step down the best point's gradient, half as far when it is the second step."""
    best = min(gradients, key=value_of)
    slope = np.array(best.user_attrs[GRADIENT], dtype=np.float64)
    spread = max(float(np.ptp(slope)), 1e-12)
    return space.project(space.mixture_of(best).array - 2 * FIRST_MOVE / spread / len(gradients) * slope).array


def _hold(trials: Sequence[FrozenTrial]) -> float:
    """Follow the trials: what did not improve tightens the hold, what did loosens it; the start design does neither."""
    best, hold = np.inf, 0.0
    for trial in trials:
        value = value_of(trial) if trial.state is TrialState.COMPLETE else np.inf
        if START not in trial.user_attrs:
            hold = hold / TIGHTEN if value < best else max(FIRST_HOLD, TIGHTEN * hold)
            hold = 0.0 if hold < FIRST_HOLD / 2 else hold
        best = min(best, value)
    return hold


def _explore(observations: Observations, space: CappedSimplex, seed: int) -> Weights | None:
    point = surrogate.most_promising(fitted(observations), observations, space, seed)
    return point if is_new(point, observations) else None


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the automatic sampler."""
    return ReplayingSampler(space, seed, propose)


AUTO = Strategy(
    "auto",
    make,
    pruned_trials="own",
    uses_gradient=True,
    gradient_optional=True,
    settings={"first_move": FIRST_MOVE, "tighten": TIGHTEN, "first_hold": FIRST_HOLD, "largest_hold": LARGEST_HOLD},
)
