"""Mixtures computed without a search: a spread over the space, and UniMax."""

from collections.abc import Mapping, Sequence

import numpy as np

from pool.mixture import Mixture
from search.space import CappedSimplex, Weights

HANDFUL = 8
"""Candidates of which the farthest is taken."""
CONCENTRATION = 2.0
"""Of the Dirichlet law on a subset; above one, so that few mixtures are nearly a single partition."""
_TRIES = 100


def spread(
    space: CappedSimplex, count: int, *, seed: int, before: Sequence[Mixture], near: Mixture | None = None
) -> list[Mixture]:
    """Return `count` feasible mixtures of two partitions or more, far from each other and from those `before`.

    Best-candidate sampling (Mitchell 1991, SIGGRAPH): each mixture is, of a handful drawn at random, the farthest from
    its predecessors. The farthest of many would be corners, where a merge is nearly a member. A longer spread begins
    with the shorter. Every third mixture is drawn half-way to `near`, the optimum, where decisions are made. Raises
    `ValueError` if the space has no mixture of two partitions.
    """
    found: list[Mixture] = []
    taken = [mixture.over(space.names).array for mixture in before]
    for number in range(count):
        towards = near if near is not None and number % 3 == 2 else None
        handful = [draw(space, np.random.default_rng([seed, number, each]), towards) for each in range(HANDFUL)]
        farthest = max(handful, key=lambda mixture: _distance(mixture.array, taken))
        found.append(farthest)
        taken.append(farthest.array)
    return found


def draw(space: CappedSimplex, rng: np.random.Generator, towards: Mixture | None = None) -> Mixture:
    """Draw a feasible mixture: a random number of partitions, a random subset, Dirichlet weights, half-way `towards`.

    Raises `ValueError` if the space has no mixture of two partitions or more.
    """
    allowed = [space.names.index(name) for name in space.allowed]
    for _ in range(_TRIES):
        size = int(rng.integers(2, max(2, min(len(allowed), space.max_members)) + 1))
        point = np.zeros(len(space.names))
        point[rng.permutation(allowed)[:size]] = rng.dirichlet(np.full(size, CONCENTRATION))[: len(allowed)]
        if towards is not None:
            point = (point + towards.over(space.names).array) / 2
        mixture = space.project(point)
        if len(mixture.support) > 1:
            return mixture
    raise ValueError(
        "the space has no mixture of two partitions or more, and a single one is its member: there is nothing to "
        "train; raise max_members, or exclude less"
    )


def _distance(point: Weights, taken: Sequence[Weights]) -> float:
    return min((float(np.linalg.norm(point - other)) for other in taken), default=0.0)


def unimax(tokens: Mapping[str, int], budget_tokens: float, max_epochs: float) -> Mixture:
    """Spread a budget as evenly as repetition allows (UniMax, Chung et al. 2023, arXiv 2304.09151, algorithm 1).

    Partitions, the smallest first, get an equal part of the remaining budget, or `max_epochs` times their tokens if
    less. Raises `ValueError` for a budget or epochs not above zero.
    """
    if not budget_tokens > 0 or not max_epochs > 0:
        raise ValueError(f"budget and epochs must be above 0: got {budget_tokens!r} and {max_epochs!r}")
    left = float(budget_tokens)
    shares: dict[str, float] = {}
    for done, name in enumerate(sorted(tokens, key=lambda name: tokens[name])):
        shares[name] = min(left / (len(tokens) - done), tokens[name] * max_epochs)
        left -= shares[name]
    return Mixture.proportional({name: shares[name] for name in tokens})
