"""Spectral projected gradient on the capped simplex, with screened random restarts.

One backward pass gives all K partial derivatives, so a step costs three forward passes for any K. Steps are
Barzilai-Borwein; a step worse than the worst of the last few is halved (Birgin, Martinez and Raydan 2000, SIAM J.
Optim. 10, algorithm SPG2). After convergence, points are random, and the gate prunes the unpromising.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex, Weights
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import GRADIENT, START, value_of

FIRST_MOVE = 0.3
"""Largest change of a weight in the first step of a descent, before projection."""
MEMORY = 4
"""A step is accepted if it is below the worst of this many accepted values."""
STEP_RANGE = (0.05, 50.0)
"""Bounds of a step, as multiples of the descent's first one."""
CONVERGED_MOVE = 2e-3
"""A descent has converged when its next step would change no weight by more than this."""


@dataclass(frozen=True)
class _Point:
    weights: Weights
    value: float
    gradient: Weights


@dataclass(frozen=True)
class _Descent:
    """A descent under way: its place, its step, and the share of the step to try next."""

    at: _Point
    step: float
    first_step: float
    share: float
    recent: tuple[float, ...]

    @classmethod
    def start(cls, point: _Point) -> _Descent:
        spread = float(np.ptp(point.gradient))
        step = 2 * FIRST_MOVE / spread if spread > 0 else 1.0
        return cls(point, step, step, 1.0, (point.value,))

    def move(self, space: CappedSimplex) -> Weights:
        """Return the full projected step (K,)."""
        return space.weights(self.at.weights - self.step * self.at.gradient) - self.at.weights

    def propose(self, space: CappedSimplex) -> Weights:
        return space.weights(self.at.weights + self.share * self.move(space))

    def converged(self, space: CappedSimplex) -> bool:
        return bool(np.abs(self.share * self.move(space)).max() < CONVERGED_MOVE)

    def shortened(self) -> _Descent:
        return replace(self, share=self.share / 2)

    def after(self, point: _Point) -> _Descent:
        """Go on from an evaluated point, or shorten the step if the point is worse than all recent ones."""
        if point.value > max(self.recent):
            return self.shortened()
        moved = point.weights - self.at.weights
        bend = float(moved @ (point.gradient - self.at.gradient))
        step = float(moved @ moved) / bend if bend > 0 else 2 * self.step
        bounded = float(np.clip(step, STEP_RANGE[0] * self.first_step, STEP_RANGE[1] * self.first_step))
        return _Descent(point, bounded, self.first_step, 1.0, (*self.recent, point.value)[-MEMORY:])


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Return the next point of the descent under way; None without one."""
    descent = _replayed(trials, space)
    return descent.propose(space) if descent else None


def _replayed(trials: Sequence[FrozenTrial], space: CappedSimplex) -> _Descent | None:
    """Follow the trials to the descent under way, the first from the best of the start design.

    A pruned step shortens the next one, like a step found worse.
    """
    evaluated = [trial for trial in trials if trial.state is TrialState.COMPLETE and GRADIENT in trial.user_attrs]
    start = [trial for trial in evaluated if START in trial.user_attrs]
    descent = _Descent.start(_point(min(start, key=value_of), space)) if start else None
    for trial in trials:
        if START in trial.user_attrs:
            continue
        if trial.state is TrialState.COMPLETE and GRADIENT in trial.user_attrs:
            point = _point(trial, space)
            descent = descent.after(point) if descent else _Descent.start(point)
        elif descent:
            descent = descent.shortened()
        if descent and descent.converged(space):
            descent = None
    return descent


def _point(trial: FrozenTrial, space: CappedSimplex) -> _Point:
    gradient = np.array(trial.user_attrs[GRADIENT], dtype=np.float64)
    return _Point(space.mixture_of(trial).array, value_of(trial), gradient)


GRADIENT_DESCENT = Strategy(
    "gradient",
    partial(ReplayingSampler, propose=propose),
    pruned_trials="own",
    uses_gradient=True,
    settings={
        "first_move": FIRST_MOVE,
        "memory": MEMORY,
        "step_range": list(STEP_RANGE),
        "converged_move": CONVERGED_MOVE,
    },
)
