"""Estimated Shapley values: random orders of the partitions, each together with its reverse.

Every order gives each player's marginal contribution, and their mean is unbiased (Castro, Gomez and Tejada 2009,
Computers & Operations Research 36). A pair of an order and its reverse is averaged first: its halves err in opposite
directions (Mitchell, Cooper, Frank and Holmes 2022, JMLR 23), and one pair is exact where players interact in pairs.

Shapley designs: which coalitions of partitions to value, and how their values become Shapley values.

phi_i = sum over S without i of |S|! (K - |S| - 1)! / K! (v(S + i) - v(S)): what partition i adds, averaged over the
orders in which partitions could come (Shapley 1953). Values may have any trailing shape: one per domain, say.

Exact Shapley values: every coalition is valued.

From a coalition of partitions to the mixture that stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from objectives.held_out import Floats
from pool.errors import StudyError
from pool.mixture import Mixture
from studies.assessment.ablation.evidence import DomainEvidence, Model

FEWEST_PAIRS = 2
"""Below two pairs there is no standard error."""

Orders = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Antithetic:
    """R pairs of orders (R, 2, K) of K players, the second of each pair the reverse of the first."""

    orders: Orders

    @classmethod
    def draw(cls, players: int, merges: int, rng: np.random.Generator) -> Antithetic:
        """Draw as many pairs as `merges` allow for certain: how many is not left to chance, or the mean had a bias."""
        pairs = (merges - 1) // (2 * (players - 1))
        first = np.stack([rng.permutation(players) for _ in range(pairs)])
        return cls(np.stack([first, first[:, ::-1]], axis=1))

    @property
    def exact(self) -> bool:
        """It is an estimate."""
        return False

    @property
    def method(self) -> str:
        """How the values are found, in words."""
        return f"estimated, {len(self.orders)} antithetic pairs of orders, {len(self.coalitions) - 1} coalitions"

    @property
    def coalitions(self) -> npt.NDArray[np.bool_]:
        """The different coalitions (N, K) that the orders pass through, the empty one first."""
        return self._passed[0]

    def estimate(self, values: Floats) -> Floats:
        """Turn the values of the coalitions (N, ...) into estimates (K, ...)."""
        mean: Floats = self._by_pair(values).mean(axis=0)
        return mean

    @property
    def confident(self) -> float:
        """Standard errors for 95 % confidence: Student's t, for the error itself is from R pairs."""
        return float(student_t.ppf(0.975, len(self.orders) - 1))

    def standard_errors(self, values: Floats) -> Floats:
        """Return the standard error (K, ...) of the mean over pairs, which are independent of each other."""
        errors: Floats = self._by_pair(values).std(axis=0, ddof=1) / np.sqrt(len(self.orders))
        return errors

    def _by_pair(self, values: Floats) -> Floats:
        """Return the estimate of each pair (R, K, ...)."""
        steps = values[self._passed[1]]
        gains = np.diff(steps, axis=2)
        places = np.argsort(self.orders, axis=2)
        places = places.reshape(places.shape + (1,) * (gains.ndim - 3))
        by_player: Floats = np.take_along_axis(gains, places, axis=2).mean(axis=1)
        return by_player

    @cached_property
    def _passed(self) -> tuple[npt.NDArray[np.bool_], Orders]:
        """Return the coalitions (N, K), and which of them each order passes through (R, 2, K + 1)."""
        pairs, halves, players = self.orders.shape
        reached = np.argsort(self.orders, axis=2)[:, :, None, :] < np.arange(players + 1)[None, None, :, None]
        flat = reached.reshape(-1, players)
        different, where = np.unique(flat, axis=0, return_inverse=True)
        return different, where.reshape(pairs, halves, players + 1)


@dataclass(frozen=True)
class Enumeration:
    """All N = 2^K coalitions of K players; bit k of a coalition's number says whether player k is in it."""

    players: int

    @property
    def exact(self) -> bool:
        """Nothing is estimated."""
        return True

    @property
    def method(self) -> str:
        """How the values are found, in words."""
        return f"exact, all {2**self.players - 1} coalitions"

    @cached_property
    def coalitions(self) -> npt.NDArray[np.bool_]:
        """The coalitions (N, K) in the order of their numbers."""
        numbers = np.arange(2**self.players)[:, None]
        members: npt.NDArray[np.bool_] = (numbers >> np.arange(self.players)) & 1 == 1
        return members

    def estimate(self, values: Floats) -> Floats:
        """Turn the values of the coalitions (N, ...) into Shapley values (K, ...)."""
        return np.stack([self._of_player(values, k) for k in range(self.players)])

    @property
    def confident(self) -> float:
        """No sampling error, no multiple of it."""
        return 0.0

    def standard_errors(self, values: Floats) -> Floats:
        """Return zeros (K, ...)."""
        return np.zeros((self.players, *values.shape[1:]))

    def _of_player(self, values: Floats, k: int) -> Floats:
        without = np.flatnonzero(~self.coalitions[:, k])
        sizes = self.coalitions[without].sum(axis=1)
        weight = np.array([_share(self.players, size) for size in range(self.players)])[sizes]
        gain: Floats = values[without | (1 << k)] - values[without]
        return np.tensordot(weight, gain, axes=1)


def _share(players: int, size: int) -> float:
    """Return |S|! (K - |S| - 1)! / K!, the share of orders in which a player comes right after the coalition S."""
    return factorial(size) * factorial(players - size - 1) / factorial(players)


Coalitions = npt.NDArray[np.bool_]


class Design(Protocol):
    """N coalitions of K players, and the estimate that their values give. The first coalition is the empty one."""

    @property
    def coalitions(self) -> Coalitions:
        """The N different coalitions (N, K)."""

    @property
    def exact(self) -> bool:
        """Whether every coalition is there, so that nothing is estimated."""

    @property
    def method(self) -> str:
        """How the values are found, in words."""

    def estimate(self, values: Floats) -> Floats:
        """Turn the values of the coalitions (N, ...) into Shapley values (K, ...), a linear map."""

    @property
    def confident(self) -> float:
        """Sampling errors that make 95 % confidence: Student's t where there are few."""

    def standard_errors(self, values: Floats) -> Floats:
        """Return the sampling errors (K, ...) of the estimate; zero where it is exact."""


def merges_needed(players: int) -> int:
    """Return the fewest coalitions that have to be merged for an estimate with an error."""
    return min((1 << players) - 1, 1 + 2 * FEWEST_PAIRS * (players - 1))


def choose_design(players: int, merges: int, *, seed: int) -> Design:
    """Enumerate every coalition where `merges` allow it, else sample antithetic pairs of orders.

    The empty coalition is the seed checkpoint and costs no merge. Raises `StudyError` when the merges allow neither.
    """
    if 2**players - 1 <= merges:
        return Enumeration(players)
    if merges < merges_needed(players):
        raise StudyError(
            f"--merges {merges} is too few for the Shapley values of {players} partitions: an estimate with an error "
            f"needs {merges_needed(players)}, all coalitions {2**players - 1}"
        )
    return Antithetic.draw(players, merges, np.random.default_rng(seed))


GameName = Literal["uniform", "best"]


@dataclass(frozen=True)
class Game:
    """A coalition S is worth minus the loss of the `whole` mixture restricted to S and renormalised.

    The empty coalition is the seed checkpoint: a pool of which nothing is taken. Partitions without weight in the whole
    are no `players`: they add nothing to any coalition, so their Shapley value is 0.
    """

    whole: Mixture

    @property
    def players(self) -> tuple[str, ...]:
        """The partitions that can contribute."""
        return self.whole.support

    def model(self, coalition: npt.NDArray[np.bool_]) -> Model:
        """Return the mixture of a coalition (K,) of the players; None, the seed, for the empty one."""
        chosen = [name for name, there in zip(self.players, coalition, strict=True) if there]
        return restricted(self.whole, chosen)

    def values(self, coalitions: npt.NDArray[np.bool_], evidence: DomainEvidence) -> Floats:
        """Return minus the loss of coalitions (N, K) in every column (N, C)."""
        return -np.stack([evidence.values(self.model(coalition)) for coalition in coalitions])


def restricted(mixture: Mixture, names: Sequence[str]) -> Model:
    """Keep some partitions of a mixture, the rest renormalised; None, the seed, when nothing is left."""
    kept = {name: weight if name in names else 0.0 for name, weight in mixture.as_dict().items()}
    return Mixture.proportional(kept) if any(kept.values()) else None


def without(mixture: Mixture, name: str) -> Model:
    """Take a partition out of a mixture, the rest renormalised; None, the seed, when nothing is left."""
    return restricted(mixture, [other for other in mixture.names if other != name])


def with_added(mixture: Mixture, name: str, weight: float) -> Mixture:
    """Give a partition `weight` and scale what was there down to make room."""
    added = (1 - weight) * mixture.array + weight * Mixture.vertex(mixture.names, name).array
    return Mixture.from_array(mixture.names, added / added.sum())
