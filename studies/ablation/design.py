"""Shapley designs: which coalitions of partitions to value, and how their values become Shapley values.

phi_i = sum over S without i of |S|! (K - |S| - 1)! / K! (v(S + i) - v(S)): what partition i adds, averaged over the
orders in which partitions could come (Shapley 1953). Values may have any trailing shape: one per domain, say.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from objectives.held_out import Floats
from pool.errors import StudyError
from studies.ablation.antithetic import FEWEST_PAIRS, Antithetic
from studies.ablation.enumeration import Enumeration

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
