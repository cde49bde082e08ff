"""CMA-ES (Hansen 2016, arXiv 1604.00772), by the package `cmaes`, on the cube.

Optuna's CmaEsSampler pickles its state into trial attributes: whoever writes to the database could run code here. So
nothing is stored: completed trials are told again, generation by generation, which decides mean, step and covariance.
Pruned trials are hidden: a generation is made of evaluated points alone, and every proposal has its own seed.
"""

from collections.abc import Sequence

import cmaes
import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex, Weights
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import START, value_of

STEP = 0.2
"""Standard deviation of the first generation, in the cube's unit."""
GROWTH = 2
"""Converged, it starts again in the middle of the cube with so many times the population (Auger and Hansen 2005)."""


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Draw from the distribution that the trials lead to; None in a space of one parameter."""
    if len(space.free) < 2:
        return None
    optimiser = replay(trials, space)
    optimiser.reseed_rng(seed)
    return space.point_of(dict(zip(space.free, optimiser.ask().tolist(), strict=True)))


def replay(trials: Sequence[FrozenTrial], space: CappedSimplex) -> cmaes.CMA:
    """Tell the completed trials in full generations; the first mean is the best of the start design."""
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    start = [trial for trial in completed if START in trial.user_attrs]
    told = [_solution(trial, space) for trial in completed if START not in trial.user_attrs]
    middle = np.full(len(space.free), 0.5)
    optimiser = _optimiser(_centred(min(start, key=value_of), space) if start else middle)
    while len(told) >= optimiser.population_size:
        optimiser.tell(told[: optimiser.population_size])
        told = told[optimiser.population_size :]
        if optimiser.should_stop():
            optimiser = _optimiser(middle, GROWTH * optimiser.population_size)
    return optimiser


def _optimiser(mean: Weights, population: int | None = None) -> cmaes.CMA:
    bounds = np.tile([0.0, 1.0], (len(mean), 1))
    return cmaes.CMA(mean, STEP, bounds, seed=0, population_size=population)


def _solution(trial: FrozenTrial, space: CappedSimplex) -> tuple[Weights, float]:
    return np.array([trial.params[name] for name in space.free]), value_of(trial)


def _centred(trial: FrozenTrial, space: CappedSimplex) -> Weights:
    """Return the point in the middle of those that stand for a trial's mixture: adding a constant changes nothing."""
    parameters = space.parameters(space.mixture_of(trial))
    weights = np.array([parameters[name] for name in space.free])
    return np.asarray(weights + (1.0 - weights.max()) / 2, dtype=np.float64)


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the CMA-ES sampler."""
    return ReplayingSampler(space, seed, propose)


CMAES = Strategy("cmaes", make, pruned_trials="hidden", settings={"step": STEP, "growth": GROWTH})
