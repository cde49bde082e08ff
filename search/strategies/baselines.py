"""Strategies without a model of the loss: random points, a Sobol sequence, a coarse grid, greedy soup.

They propose points of the cube; the space projects whatever is not feasible.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import chain, combinations, combinations_with_replacement, islice

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from pool.mixture import Mixture
from search.space import CappedSimplex, Weights
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import START, value_of

LARGEST_SUBSET = 3
"""Members of the largest uniform subsets of the exhaustive strategy."""
GRID_STEPS = 4
"""Weights on the exhaustive strategy's grid are multiples of 1 / GRID_STEPS."""

Subset = tuple[str, ...]


def propose_random(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> None:
    """Leave every point to chance: independent uniform points, the baseline to beat."""


def propose_sobol(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights:
    """Return the next point of a scrambled Sobol sequence (Owen 1998), counted by the proposals made.

    Optuna's QMCSampler counts its points in the study, so a search killed before proposing skips a point.
    """
    from scipy.stats import qmc  # takes half a second

    sequence = qmc.Sobol(len(space.free), scramble=True, rng=np.random.default_rng(seed))
    done = sum(START not in trial.user_attrs for trial in trials)
    if done:
        sequence.fast_forward(done)
    return space.point_of(dict(zip(space.free, sequence.random(1)[0].tolist(), strict=True)))


def propose_exhaustive(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Return the first candidate without a trial; None after the last. Values teach this strategy nothing."""
    visited = _answers(trials, space)
    done = sum(START not in trial.user_attrs for trial in trials)  # each has used up a candidate at least
    for members in islice(candidates(space), done, None):
        weights = {name: members.count(name) / len(members) for name in members}
        parameters = space.parameters(Mixture.of(weights).over(space.names))
        if tuple(parameters.values()) not in visited:
            return space.point_of(parameters)
    return None


def candidates(space: CappedSimplex) -> Iterator[Subset]:
    """List uniform subsets by size, then a grid on the simplex, all within `max_members`.

    Members have equal weights, and a member may come several times. Some candidates are equal.
    """
    sizes = range(1, min(LARGEST_SUBSET, space.max_members, len(space.allowed)) + 1)
    yield from chain.from_iterable(combinations(space.allowed, size) for size in sizes)
    grid = combinations_with_replacement(space.allowed, GRID_STEPS)
    yield from (steps for steps in grid if len(set(steps)) <= space.max_members)


def propose_greedy(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Return the first subset the soup asks for and no trial has answered; None once the soup is done."""
    known = _answers(trials, space)
    cook = soup(space.allowed, space.max_members)
    subset = next(cook)
    while True:
        parameters = space.parameters(Mixture.uniform(subset).over(space.names))
        answer = known.get(tuple(parameters.values()))
        if answer is None:
            return space.point_of(parameters)
        try:
            subset = cook.send(answer)
        except StopIteration:
            return None


def soup(names: Sequence[str], max_members: int) -> Generator[Subset, float, None]:
    """Yield uniform subsets, and be sent the loss of each: greedy soup, then backward elimination.

    Members come in the order of their single losses, and stay if they lower the loss (Wortsman et al. 2022, ICML,
    recipe 1). Then members are taken away while the loss falls. Both repeat until nothing helps.
    """
    single: dict[str, float] = {}
    for name in names:
        single[name] = yield (name,)
    order = sorted(names, key=lambda name: single[name])
    members: Subset = (order[0],)
    best, improved = single[order[0]], True
    while improved:
        improved = False
        for name in order:
            if name not in members and len(members) < max_members:
                value = yield (*members, name)
                if value < best:
                    members, best, improved = (*members, name), value, True
        for name in members:
            rest = tuple(other for other in members if other != name)
            value = (yield rest) if rest else math.inf
            if value < best:
                members, best, improved = rest, value, True


def _answers(trials: Sequence[FrozenTrial], space: CappedSimplex) -> dict[tuple[float, ...], float]:
    """Map parameters to values, infinite for pruned and failed trials.

    Parameters are compared exactly: a mixture always has the same bits.
    """
    known: dict[tuple[float, ...], float] = {}
    for trial in trials:
        point = tuple(trial.params[name] for name in space.free)
        value = value_of(trial) if trial.state is TrialState.COMPLETE else math.inf
        known[point] = min(value, known.get(point, math.inf))
    return known


RANDOM = Strategy("random", partial(ReplayingSampler, propose=propose_random), pruned_trials="hidden", several=True)

QMC = Strategy(
    "qmc",
    partial(ReplayingSampler, propose=propose_sobol),
    pruned_trials="own",
    several=True,
    one_seed=True,
    running_trials="shown",
    settings={"scramble": True},
)

EXHAUSTIVE = Strategy(
    "exhaustive",
    partial(ReplayingSampler, propose=propose_exhaustive),
    pruned_trials="own",
    running_trials="shown",
    settings={"largest_subset": LARGEST_SUBSET, "grid_steps": GRID_STEPS},
)

GREEDY = Strategy("greedy", partial(ReplayingSampler, propose=propose_greedy), pruned_trials="own")
