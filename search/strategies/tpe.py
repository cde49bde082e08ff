"""Tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's, over all coordinates jointly.

Pruned trials are hidden from it: they would count into its quantile and turn every evaluated mixture into a
good one.
"""

from optuna.samplers import BaseSampler, TPESampler

from search.space import CappedSimplex
from search.strategies.strategy import Strategy

STARTUP_TRIALS = 10


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's TPE sampler."""
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)


TPE = Strategy(
    "tpe",
    make,
    pruned_trials="hidden",
    several=True,
    running_trials="shown",
    settings={"n_startup_trials": STARTUP_TRIALS, "multivariate": True, "constant_liar": True},
)
