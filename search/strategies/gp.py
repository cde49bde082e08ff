"""Gaussian-process Bayesian optimisation, Optuna's, with the log expected improvement.

It explores by expected improvement under a model of its own, and the gate never holds it back: what was merged instead
was worth less to it (docs/decisions/0012). The gate predicts all the same, and counts what it would have pruned.
"""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler

from search.space import CappedSimplex
from search.strategies.strategy import Strategy

STARTUP_TRIALS = 10
MOST_SHOWN = 150
"""Its cost grows with the cube of what it conditions on: 15 s a proposal for 1,000 trials of 128 partitions."""


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's GP sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the argument deterministic_objective
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=True)


GP = Strategy(
    "gp",
    make,
    pruned_trials="elsewhere",
    several=True,
    running_trials="shown",
    most_shown=MOST_SHOWN,
    patience=0,
    settings={"n_startup_trials": STARTUP_TRIALS, "deterministic_objective": True, "most_shown": MOST_SHOWN},
)
