"""Quasi-Monte Carlo: a scrambled Sobol sequence (Owen 1998), more even than random points.

Optuna's QMCSampler counts its points in the study, so a search killed between counting and proposing skips one. Here
the count is the number of proposals made, and the sequence goes on with the same scrambling.

Independent uniform points of the cube, projected: the baseline every other strategy has to beat.
"""

from collections.abc import Sequence

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from search.space import CappedSimplex, Weights
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import START


def propose_sobol(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights:
    """Return the next point of the sequence; the start design has no part in it."""
    sequence = qmc.Sobol(len(space.free), scramble=True, rng=np.random.default_rng(seed))
    done = sum(START not in trial.user_attrs for trial in trials)
    if done:
        sequence.fast_forward(done)
    return space.point_of(dict(zip(space.free, sequence.random(1)[0].tolist(), strict=True)))


def make_qmc(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the sampler of the sequence."""
    return ReplayingSampler(space, seed, propose_sobol)


QMC = Strategy(
    "qmc",
    make_qmc,
    pruned_trials="own",
    several=True,
    one_seed=True,
    running_trials="shown",
    settings={"scramble": True},
)


def propose_random(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> None:
    """Learn nothing: every point is a random one."""


def make_random(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the random sampler."""
    return ReplayingSampler(space, seed, propose_random)


RANDOM = Strategy("random", make_random, pruned_trials="hidden", several=True)
