"""The strategy for when in doubt: descent on a model of the loss if there are gradients, else the surrogate.

Each proposal is the minimum of a Scheffe quadratic, fitted to all values and gradients, plus a proximal term around
the best mixture. The term loosens after an improvement and tightens after a failure. If the slope is still steep after
a step, the quadratic bends too much, and the next step is stretched. A quadratic loss takes about as many evaluations
as partitions in use. Once converged, the strategy explores by expected improvement.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex, Weights
from search.strategies import surrogate
from search.strategies.strategy import INFORMED_PATIENCE, ReplayingSampler, Strategy
from search.trials import GRADIENT, START, value_of

if TYPE_CHECKING:
    from search.surrogates.scheffe_rows import Coefficients

FIRST_MOVE = 0.3
"""Largest change of a weight while there is a single gradient."""
TIGHTEN = 4.0
FIRST_HOLD = 0.25
LARGEST_HOLD = 300.0
"""Bounds of the proximal term, as multiples of the model's largest curvature."""
STILL_STEEP = 0.5
"""A step is stretched twice as far as the last if so much of the slope along the last was left at its end."""
LARGEST_STRETCH = 16.0
CONVERGED_MOVE = 1e-3
STEPS = 300


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Propose the next step of the descent, or by expected improvement once converged."""
    gradients = [trial for trial in trials if trial.state is TrialState.COMPLETE and GRADIENT in trial.user_attrs]
    if not gradients:
        return surrogate.propose(trials, space, seed)
    observations = surrogate.evidence_of(trials, space)
    if observations is None:
        return _first_step(gradients, space)
    hold, stretch = _pace(trials, space)
    best = observations.weights[int(np.argmin(observations.values))]
    model = surrogate.fitted(observations)
    if hold <= LARGEST_HOLD:
        point = minimum(model.coefficients, best, hold, space)
        if stretch > 1:
            point = space.weights(best + stretch * (point - best))
        if np.abs(point - best).max() >= CONVERGED_MOVE and surrogate.is_new(point, observations):
            return point
    point = surrogate.most_promising(model, observations, space, seed)
    return point if surrogate.is_new(point, observations) else None


def minimum(model: Coefficients, best: Weights, hold: float, space: CappedSimplex) -> Weights:
    """Minimise model(w) + hold * curvature / 2 * |w - best|^2 over the space, by accelerated projected gradient.

    Beck and Teboulle 2009 (FISTA), restarted when it turns uphill (O'Donoghue and Candes 2015).
    """
    curvature = 2 * float(np.linalg.norm(model.quadratic, 2)) + 1e-12
    step = 1 / (curvature * (1 + hold))
    w, y, momentum = best, best, 1.0
    for _ in range(STEPS):
        slope = model.linear + 2 * model.quadratic @ y + hold * curvature * (y - best)
        ahead = space.weights(y - step * slope)
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
    """Step down the best point's gradient, half as far in the second step."""
    best = min(gradients, key=value_of)
    slope = np.array(best.user_attrs[GRADIENT], dtype=np.float64)
    spread = max(float(np.ptp(slope)), 1e-12)
    return space.weights(space.mixture_of(best).array - 2 * FIRST_MOVE / spread / len(gradients) * slope)


def _pace(trials: Sequence[FrozenTrial], space: CappedSimplex) -> tuple[float, float]:
    """Follow the trials to the hold and the stretch of the next step; the start design changes neither."""
    best, lowest = None, np.inf
    hold, stretch = 0.0, 1.0
    for trial in trials:
        value = value_of(trial) if trial.state is TrialState.COMPLETE else np.inf
        improves = value < lowest
        if START not in trial.user_attrs:
            if improves:
                hold = hold / TIGHTEN if hold > FIRST_HOLD else 0.0
            elif stretch == 1:
                hold = min(max(FIRST_HOLD, TIGHTEN * hold), TIGHTEN * LARGEST_HOLD)
            steep = improves and best is not None and _still_steep(best, trial, space)
            stretch = min(2 * stretch, LARGEST_STRETCH) if steep else 1.0
        best, lowest = (trial, value) if improves else (best, lowest)
    return hold, stretch if hold == 0 else 1.0


def _still_steep(before: FrozenTrial, after: FrozenTrial, space: CappedSimplex) -> bool:
    if GRADIENT not in before.user_attrs or GRADIENT not in after.user_attrs:
        return False
    step = space.mixture_of(after).array - space.mixture_of(before).array
    fell, falls = (float(np.array(one.user_attrs[GRADIENT]) @ step) for one in (before, after))
    return falls < STILL_STEEP * fell < 0


AUTO = Strategy(
    "auto",
    partial(ReplayingSampler, propose=propose),
    pruned_trials="own",
    uses_gradient=True,
    gradient_optional=True,
    several=True,
    patience=INFORMED_PATIENCE,
    settings={
        "first_move": FIRST_MOVE,
        "tighten": TIGHTEN,
        "first_hold": FIRST_HOLD,
        "largest_hold": LARGEST_HOLD,
        "largest_stretch": LARGEST_STRETCH,
    },
)
