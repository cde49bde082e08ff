"""Independent uniform points of the cube, projected: the baseline every other strategy has to beat."""

from collections.abc import Sequence

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.space import CappedSimplex
from search.strategies.replaying import ReplayingSampler
from search.strategies.strategy import Strategy


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> None:
    """Learn nothing: every point is a random one."""


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the random sampler."""
    return ReplayingSampler(space, seed, propose)


RANDOM = Strategy("random", make, pruned_trials="hidden", several=True)
