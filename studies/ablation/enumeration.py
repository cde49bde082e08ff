"""Exact Shapley values: every coalition is valued."""

from dataclasses import dataclass
from functools import cached_property
from math import factorial

import numpy as np
import numpy.typing as npt

from objectives.held_out import Floats


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
