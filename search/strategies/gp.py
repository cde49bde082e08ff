"""Gaussian-process Bayesian optimisation, Optuna's, with the log expected improvement.

It conditions on evaluated trials only, so after a pruned one it would propose the same point for ever: the next
proposal is then drawn at random.
"""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler

from search.space import CappedSimplex
from search.strategies.strategy import INFORMED_PATIENCE, Strategy

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
    patience=INFORMED_PATIENCE,
    settings={"n_startup_trials": STARTUP_TRIALS, "deterministic_objective": True, "most_shown": MOST_SHOWN},
)
