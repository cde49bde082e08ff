"""Everything coarse: uniform subsets by increasing size, then a grid on the simplex; then random points.

Nothing is learnt from values, so every proposal is made once, pruned or not. What is outside the space is projected.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, combinations_with_replacement, islice

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from pool.mixture import Mixture
from search.space import CappedSimplex, Weights
from search.strategies.greedy import answers
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import START

LARGEST_SUBSET = 3
"""Members of the largest uniform subsets."""
GRID_STEPS = 4
"""The grid's weights are multiples of one over this."""


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Return the first candidate that no trial has had; None when all were visited."""
    visited = answers(trials, space)
    done = sum(START not in trial.user_attrs for trial in trials)  # each has used up a candidate at least
    for members in islice(candidates(space), done, None):
        parameters = space.parameters(_mixture(members, space))
        if tuple(parameters.values()) not in visited:
            return space.point_of(parameters)
    return None


def candidates(space: CappedSimplex) -> Iterator[tuple[str, ...]]:
    """List subsets, then the grid, both within the limit on members; some come twice, or are equal once projected.

    Each is a list of members with equal weights; on the grid a member may come several times.
    """
    sizes = range(1, min(LARGEST_SUBSET, space.max_members, len(space.allowed)) + 1)
    yield from chain.from_iterable(combinations(space.allowed, size) for size in sizes)
    grid = combinations_with_replacement(space.allowed, GRID_STEPS)
    yield from (steps for steps in grid if len(set(steps)) <= space.max_members)


def _mixture(members: tuple[str, ...], space: CappedSimplex) -> Mixture:
    return Mixture.of({name: members.count(name) / len(members) for name in members}).over(space.names)


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the exhaustive sampler."""
    return ReplayingSampler(space, seed, propose)


EXHAUSTIVE = Strategy(
    "exhaustive",
    make,
    pruned_trials="own",
    running_trials="shown",
    settings={"largest_subset": LARGEST_SUBSET, "grid_steps": GRID_STEPS},
)
