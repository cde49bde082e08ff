"""Which partitions help each other: a symmetric (K, K) matrix, above zero where two together do more than each alone.

From all coalitions, the Shapley interaction index (Grabisch and Roubens 1999, Int. J. Game Theory 28):
I_ij = sum over S without i, j of |S|! (K - |S| - 2)! / (K - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S)).
From any evaluations, the cross terms of a Scheffe quadratic: on the simplex only beta_ij = 2 Q_ij - Q_ii - Q_jj is told
apart from the rest (Scheffe 1958), and -beta_ij / 4 is how much an even merge of two is below their mean loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Literal

import numpy as np

from objectives.held_out import Floats
from pool.mixture import Mixture
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Observations
from studies.ablation.enumeration import Enumeration


@dataclass(frozen=True, eq=False)
class Interactions:
    """Pairwise interactions (K, K) in the value minimised, the diagonal zero, and how they were found."""

    kind: Literal["shapley interaction index", "scheffe cross terms"]
    values: Floats


def shapley_interactions(design: Enumeration, values: Floats) -> Interactions:
    """Return the Shapley interaction index from the values (N,) of every coalition."""
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
    """Fit a Scheffe quadratic to the losses (N,) of evaluated mixtures, N >= 3, and return -beta (K, K)."""
    surrogate = ScheffeSurrogate()
    surrogate.fit(Observations.of_values(np.stack([mixture.array for mixture in mixtures]), losses))
    quadratic = surrogate.coefficients.quadratic
    own = np.diag(quadratic)
    return Interactions("scheffe cross terms", own[:, None] + own[None, :] - 2 * quadratic)
