"""Estimated Shapley values: random orders of the partitions, each together with its reverse.

Every order gives each player's marginal contribution, and their mean is unbiased (Castro, Gomez and Tejada 2009,
Computers & Operations Research 36). A pair of an order and its reverse is averaged first: its halves err in opposite
directions (Mitchell, Cooper, Frank and Holmes 2022, JMLR 23), and one pair is exact where players interact in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from objectives.held_out import Floats

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
