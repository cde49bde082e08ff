"""Shapley values and interactions: coalitions of partitions to value, and estimates from their values.

phi_i = sum over S without i of |S|! (K - |S| - 1)! / K! (v(S + i) - v(S)): the gain from partition i, averaged over all
orders of the partitions (Shapley 1953). Values may have any trailing shape, one per domain for example.
`Enumeration` values every coalition. `Antithetic` values those of random orders, each with its reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import factorial
from typing import Literal

import numpy as np
import numpy.typing as npt

from objectives.held_out import Floats
from pool.errors import StudyError
from pool.mixture import Mixture
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Observations

FEWEST_PAIRS = 2
"""A standard error needs two pairs."""

Orders = npt.NDArray[np.int64]
Coalitions = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Enumeration:
    """All N = 2^K coalitions of K players; bit k of a coalition's number stands for player k."""

    players: int

    exact = True
    confident = 0.0
    """Sampling errors in half a 95 % interval."""

    @property
    def method(self) -> str:
        return f"exact, all {2**self.players - 1} coalitions"

    @cached_property
    def coalitions(self) -> Coalitions:
        """The coalitions (N, K) in the order of their numbers."""
        numbers = np.arange(2**self.players)[:, None]
        members: Coalitions = (numbers >> np.arange(self.players)) & 1 == 1
        return members

    def estimate(self, values: Floats) -> Floats:
        """Turn the values of the coalitions (N, ...) into Shapley values (K, ...)."""
        return np.stack([self._of_player(values, k) for k in range(self.players)])

    def standard_errors(self, values: Floats) -> Floats:
        return np.zeros((self.players, *values.shape[1:]))

    def _of_player(self, values: Floats, k: int) -> Floats:
        without = np.flatnonzero(~self.coalitions[:, k])
        sizes = self.coalitions[without].sum(axis=1)
        weight = np.array([_share(self.players, size) for size in range(self.players)])[sizes]
        gain: Floats = values[without | (1 << k)] - values[without]
        return np.tensordot(weight, gain, axes=1)


def _share(players: int, size: int) -> float:
    """Return |S|! (K - |S| - 1)! / K!, the share of orders with a player right after the coalition S."""
    return factorial(size) * factorial(players - size - 1) / factorial(players)


@dataclass(frozen=True, eq=False)
class Antithetic:
    """R pairs of orders (R, 2, K) of K players, each order with its reverse.

    The mean over orders is unbiased (Castro, Gomez and Tejada 2009, Computers & Operations Research 36). The halves of
    a pair err in opposite directions (Mitchell, Cooper, Frank and Holmes 2022, JMLR 23); one pair is exact if
    players interact only in pairs.
    """

    orders: Orders

    @classmethod
    def draw(cls, players: int, merges: int, rng: np.random.Generator) -> Antithetic:
        """Draw as many pairs as `merges` surely allow; a random number of pairs would bias the mean."""
        pairs = (merges - 1) // (2 * (players - 1))
        first = np.stack([rng.permutation(players) for _ in range(pairs)])
        return cls(np.stack([first, first[:, ::-1]], axis=1))

    exact = False

    @property
    def method(self) -> str:
        return f"estimated, {len(self.orders)} antithetic pairs of orders, {len(self.coalitions) - 1} coalitions"

    @property
    def coalitions(self) -> Coalitions:
        """The different coalitions (N, K) on the way of the orders, the empty one first."""
        return self._passed[0]

    def estimate(self, values: Floats) -> Floats:
        """Turn the values of the coalitions (N, ...) into estimates (K, ...)."""
        mean: Floats = self._by_pair(values).mean(axis=0)
        return mean

    @property
    def confident(self) -> float:
        """Student's t of R pairs."""
        from scipy.stats import t as student_t  # takes a second

        return float(student_t.ppf(0.975, len(self.orders) - 1))

    def standard_errors(self, values: Floats) -> Floats:
        """Return the standard error (K, ...) of the mean over independent pairs."""
        errors: Floats = self._by_pair(values).std(axis=0, ddof=1) / np.sqrt(len(self.orders))
        return errors

    def _by_pair(self, values: Floats) -> Floats:
        steps = values[self._passed[1]]
        gains = np.diff(steps, axis=2)
        places = np.argsort(self.orders, axis=2)
        places = places.reshape(places.shape + (1,) * (gains.ndim - 3))
        by_player: Floats = np.take_along_axis(gains, places, axis=2).mean(axis=1)
        return by_player

    @cached_property
    def _passed(self) -> tuple[Coalitions, Orders]:
        """Return the coalitions (N, K), and the numbers of those on each order's way (R, 2, K + 1)."""
        pairs, halves, players = self.orders.shape
        reached = np.argsort(self.orders, axis=2)[:, :, None, :] < np.arange(players + 1)[None, None, :, None]
        flat = reached.reshape(-1, players)
        different, where = np.unique(flat, axis=0, return_inverse=True)
        return different, where.reshape(pairs, halves, players + 1)


Design = Enumeration | Antithetic


def merges_needed(players: int) -> int:
    """Return the fewest merges for an estimate with an error."""
    return min((1 << players) - 1, 1 + 2 * FEWEST_PAIRS * (players - 1))


def choose_design(players: int, merges: int, *, seed: int) -> Design:
    """Enumerate every coalition if `merges` allow it, else draw antithetic pairs of orders.

    The empty coalition, the seed checkpoint, costs no merge. Raises `StudyError` for too few merges.
    """
    if 2**players - 1 <= merges:
        return Enumeration(players)
    if merges < merges_needed(players):
        raise StudyError(
            f"--coalitions {merges} is too few for the Shapley values of {players} partitions: an estimate with an "
            f"error needs {merges_needed(players)}, all coalitions {2**players - 1}"
        )
    return Antithetic.draw(players, merges, np.random.default_rng(seed))


@dataclass(frozen=True, eq=False)
class Interactions:
    """Symmetric pairwise interactions (K, K) on the goal, diagonal zero; above zero, two do more than each alone."""

    kind: Literal["shapley interaction index", "scheffe cross terms"]
    values: Floats


def shapley_interactions(design: Enumeration, values: Floats) -> Interactions:
    """Return the Shapley interaction index from the values (N,) of every coalition.

    I_ij = sum over S without i, j of |S|! (K - |S| - 2)! / (K - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S))
    (Grabisch and Roubens 1999, Int. J. Game Theory 28).
    """
    players = design.players
    found = np.zeros((players, players))
    for i, j in combinations(range(players), 2):
        neither = np.flatnonzero(~design.coalitions[:, i] & ~design.coalitions[:, j])
        sizes = design.coalitions[neither].sum(axis=1)
        shares = [factorial(s) * factorial(players - s - 2) / factorial(players - 1) for s in range(players - 1)]
        one, other = neither | (1 << i), neither | (1 << j)
        gains = values[one | other] - values[one] - values[other] + values[neither]
        found[i, j] = found[j, i] = np.array(shares)[sizes] @ gains
    return Interactions("shapley interaction index", found)


def scheffe_interactions(mixtures: Sequence[Mixture], losses: Floats) -> Interactions:
    """Fit a Scheffe quadratic to the losses (N,) of mixtures, N >= 3, and return -beta (K, K).

    On the simplex only beta_ij = 2 Q_ij - Q_ii - Q_jj is identified (Scheffe 1958). An even merge of two
    is -beta_ij / 4 below their mean loss.
    """
    surrogate = ScheffeSurrogate()
    surrogate.fit(Observations.of_values(np.stack([mixture.array for mixture in mixtures]), losses))
    quadratic = surrogate.coefficients.quadratic
    own = np.diag(quadratic)
    return Interactions("scheffe cross terms", own[:, None] + own[None, :] - 2 * quadratic)
