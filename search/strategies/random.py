"""Independent uniform points of the cube, projected: the baseline every other strategy has to beat."""

from optuna.samplers import BaseSampler, RandomSampler

from search.space import CappedSimplex
from search.strategies.strategy import Strategy


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's random sampler."""
    return RandomSampler(seed=seed)


RANDOM = Strategy("random", make, pruned_trials="hidden")
