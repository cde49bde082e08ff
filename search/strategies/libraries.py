"""Strategies of other packages: Optuna's TPE, GP, NSGA-II and NSGA-III, and CMA-ES by `cmaes`.

TPE, NSGA and CMA-ES see no pruned trials: TPE would take every evaluated mixture for a good one beside them, and a
generation of NSGA or CMA-ES consists of evaluated mixtures.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import SBXCrossover
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex, Weights
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import START, value_of

if TYPE_CHECKING:
    import cmaes

STARTUP_TRIALS = 10
MOST_SHOWN = 150
"""GP's cost is cubic in the trials shown: 15 s a proposal for 1,000 trials of 128 partitions."""
POPULATION = 10
"""Mixtures in a generation of NSGA: budgets are some tens of merges."""
CROSSOVER = {"crossover_prob": 1.0, "use_child_gene_prob": 1.0}
"""Every child is crossed: a copy of a parent would cost a merge and teach nothing."""
STEP = 0.2
"""Standard deviation of CMA-ES's first generation, in the cube's unit."""
GROWTH = 2
"""Once converged, CMA-ES restarts mid-cube with so many times the population (Auger and Hansen 2005)."""


def make_tpe(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make a tree-structured Parzen estimator (Bergstra et al. 2011) over all coordinates jointly."""
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)


def make_gp(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Gaussian-process Bayesian optimisation with the log expected improvement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the argument deterministic_objective
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=True)


def make_nsga(
    space: CappedSimplex, seed: int, *, sampler: type[NSGAIISampler] | type[NSGAIIISampler] = NSGAIISampler
) -> BaseSampler:
    """Make NSGA-II (Deb et al. 2002) or NSGA-III (Deb and Jain 2014) with simulated binary crossover.

    NSGA-III spreads parents over reference directions instead of by crowding: for more than two or three objectives.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of NSGA-III and the crossover
        crossover = SBXCrossover(use_child_gene_prob=CROSSOVER["use_child_gene_prob"])
        return sampler(
            population_size=POPULATION, crossover=crossover, crossover_prob=CROSSOVER["crossover_prob"], seed=seed
        )


def propose_cmaes(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Draw from the distribution CMA-ES has reached (Hansen 2016, arXiv 1604.00772); None for one parameter."""
    if len(space.free) < 2:
        return None
    optimiser = replay(trials, space)
    optimiser.reseed_rng(seed)
    return space.point_of(dict(zip(space.free, optimiser.ask().tolist(), strict=True)))


def replay(trials: Sequence[FrozenTrial], space: CappedSimplex) -> cmaes.CMA:
    """Tell CMA-ES the completed trials in full generations; the first mean is the best of the start design.

    Optuna's CmaEsSampler pickles its state into trial attributes, so anyone writing to the database could run code
    here. Nothing is stored instead: the trials decide mean, step and covariance.
    """
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    start = [trial for trial in completed if START in trial.user_attrs]
    told = [
        (np.array([trial.params[name] for name in space.free]), value_of(trial))
        for trial in completed
        if START not in trial.user_attrs
    ]
    middle = np.full(len(space.free), 0.5)
    optimiser = _optimiser(_centred(min(start, key=value_of), space) if start else middle)
    while len(told) >= optimiser.population_size:
        optimiser.tell(told[: optimiser.population_size])
        told = told[optimiser.population_size :]
        if optimiser.should_stop():
            optimiser = _optimiser(middle, GROWTH * optimiser.population_size)
    return optimiser


def _optimiser(mean: Weights, population: int | None = None) -> cmaes.CMA:
    import cmaes  # loads slowly

    bounds = np.tile([0.0, 1.0], (len(mean), 1))
    return cmaes.CMA(mean, STEP, bounds, seed=0, population_size=population)


def _centred(trial: FrozenTrial, space: CappedSimplex) -> Weights:
    """Shift a mixture's parameters to the middle of the cube: adding a constant changes no mixture."""
    parameters = space.parameters(space.mixture_of(trial))
    weights = np.array([parameters[name] for name in space.free])
    return np.asarray(weights + (1.0 - weights.max()) / 2, dtype=np.float64)


TPE = Strategy(
    "tpe",
    make_tpe,
    pruned_trials="hidden",
    several=True,
    running_trials="shown",
    settings={"n_startup_trials": STARTUP_TRIALS, "multivariate": True, "constant_liar": True},
)

# The gate never holds GP back: random mixtures in place of its own teach GP less (docs/decisions/0012).
GP = Strategy(
    "gp",
    make_gp,
    pruned_trials="elsewhere",
    several=True,
    running_trials="shown",
    most_shown=MOST_SHOWN,
    patience=0,
    settings={"n_startup_trials": STARTUP_TRIALS, "deterministic_objective": True, "most_shown": MOST_SHOWN},
)

_NSGA_SETTINGS: dict[str, object] = {"population_size": POPULATION, **CROSSOVER}

NSGA2 = Strategy("nsga2", make_nsga, pruned_trials="hidden", several=True, settings=_NSGA_SETTINGS)

NSGA3 = Strategy(
    "nsga3",
    partial(make_nsga, sampler=NSGAIIISampler),
    pruned_trials="hidden",
    several=True,
    settings=_NSGA_SETTINGS,
)

CMAES = Strategy(
    "cmaes",
    partial(ReplayingSampler, propose=propose_cmaes),
    pruned_trials="hidden",
    settings={"step": STEP, "growth": GROWTH},
)
