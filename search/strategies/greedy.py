"""Greedy soup (Wortsman et al. 2022, ICML, recipe 1), then backward elimination, over uniform subsets.

Members come in the order of their single losses; each stays if the loss falls with it. Then members are taken away
while the loss falls, and both are repeated until nothing helps. A pruned or failed subset counts as no better. What
is outside the space is projected; when the soup is done, points are random.
"""

import math
from collections.abc import Generator, Sequence

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from pool.mixture import Mixture
from search.space import CappedSimplex, Weights
from search.strategies.strategy import ReplayingSampler, Strategy
from search.trials import value_of

Subset = tuple[str, ...]
Point = tuple[float, ...]


def propose(trials: Sequence[FrozenTrial], space: CappedSimplex, seed: int) -> Weights | None:
    """Return the first subset that the soup asks for and no trial has answered; None when it asks no more."""
    known = answers(trials, space)
    cook = soup(space.allowed, space.max_members)
    subset = next(cook)
    while True:
        parameters = space.parameters(uniform_over(subset, space))
        answer = known.get(tuple(parameters.values()))
        if answer is None:
            return space.point_of(parameters)
        try:
            subset = cook.send(answer)
        except StopIteration:
            return None


def soup(names: Sequence[str], max_members: int) -> Generator[Subset, float, None]:
    """Yield subsets whose loss is to be sent back, until neither adding nor taking away a member lowers it."""
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


def uniform_over(names: Sequence[str], space: CappedSimplex) -> Mixture:
    """Weigh some partitions alike and the others not at all."""
    return Mixture.uniform(names).over(space.names)


def answers(trials: Sequence[FrozenTrial], space: CappedSimplex) -> dict[Point, float]:
    """Map the parameters of finished trials to their values, infinite where there is none.

    Parameters are compared exactly: a proposal made again from the same mixture has the same bits.
    """
    known: dict[Point, float] = {}
    for trial in trials:
        point = tuple(trial.params[name] for name in space.free)
        value = value_of(trial) if trial.state is TrialState.COMPLETE else math.inf
        known[point] = min(value, known.get(point, math.inf))
    return known


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make the greedy sampler."""
    return ReplayingSampler(space, seed, propose)


GREEDY = Strategy("greedy", make, pruned_trials="own")
