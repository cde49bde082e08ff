"""A table of contributions: by how much each partition lowers each column's loss, with an error beside it.

Which partitions help each other: a symmetric (K, K) matrix, above zero where two together do more than each alone.

From all coalitions, the Shapley interaction index (Grabisch and Roubens 1999, Int. J. Game Theory 28):
I_ij = sum over S without i, j of |S|! (K - |S| - 2)! / (K - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S)).
From any evaluations, the cross terms of a Scheffe quadratic: on the simplex only beta_ij = 2 Q_ij - Q_ii - Q_jj is told
apart from the rest (Scheffe 1958), and -beta_ij / 4 is how much an even merge of two is below their mean loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Literal

import numpy as np

from objectives.held_out import Floats
from pool.mixture import Mixture
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Observations
from studies.assessment.ablation.evidence import DomainEvidence, Model
from studies.assessment.ablation.shapley import Enumeration, with_added, without


@dataclass(frozen=True, eq=False)
class Contributions:
    """How much lower the loss is with each partition (K, C), in the goal's measure; below zero, the partition harms.

    `errors` (K, C) are standard errors over documents, infinite where a domain has a single document; None where they
    are not known. Columns are the evidence's: the goal first.
    """

    values: Floats
    errors: Floats | None = None

    def of(self, row: int, column: int) -> tuple[float, float | None]:
        """Return a contribution and its standard error."""
        return float(self.values[row, column]), None if self.errors is None else float(self.errors[row, column])


def removals(evidence: DomainEvidence, best: Mixture) -> dict[str, Contributions]:
    """Leave every partition out, and add every partition, one at a time.

    `best-without` and `uniform-without`: the mixture without partition k, the rest renormalised, against the whole.
    `alone`: member k against the seed. `added-to-best`: k at weight 1/K, the rest scaled down, against the best.
    """
    names = best.names
    uniform = Mixture.uniform(names)
    pairs: Mapping[str, Iterable[tuple[Model, Model]]] = {
        "best-without": ((without(best, name), best) for name in names),
        "uniform-without": ((without(uniform, name), uniform) for name in names),
        "alone": ((None, Mixture.vertex(names, name)) for name in names),
        "added-to-best": ((best, with_added(best, name, 1 / len(names))) for name in names),
    }
    return {quantity: _compared(evidence, models) for quantity, models in pairs.items()}


def first_order(evidence: DomainEvidence, best: Mixture) -> dict[str, Contributions]:
    """Predict leaving out and adding from the gradient g at the best mixture alone; empty where there is none.

    Taking k out moves the weights by w_k / (1 - w_k) (w - e_k), so the loss rises by w_k / (1 - w_k) (g'w - g_k):
    gradient times input (Shrikumar et al. 2016, arXiv 1605.01713) along the simplex; NaN where nothing is left. Adding
    k at 1/K lowers it by (g'w - g_k) / K. At an optimum g_k = g'w for every partition used, so the goal's own column
    vanishes there: it is the domains, and what was left out, that these tell of.
    """
    slopes = evidence.slopes(best)
    if slopes is None:
        return {}
    ahead = (slopes @ best.array)[:, None] - slopes
    left = 1 - best.array
    removed = ahead * np.divide(best.array, left, out=np.full(len(left), np.nan), where=left > 0)
    added = ahead / len(best.names)
    return {"best-without-predicted": Contributions(removed.T), "added-to-best-predicted": Contributions(added.T)}


def _compared(evidence: DomainEvidence, models: Iterable[tuple[Model, Model]]) -> Contributions:
    rows = [evidence.differences(less, more) for less, more in models]
    values = np.array([[one.difference for one in row] for row in rows])
    return Contributions(values, np.array([[one.standard_error for one in row] for row in rows]))


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
