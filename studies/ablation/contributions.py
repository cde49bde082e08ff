"""A table of contributions: by how much each partition lowers each column's loss, with an error beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from objectives.held_out import Floats
from pool.mixture import Mixture
from studies.ablation.coalitions import with_added, without
from studies.ablation.evidence import Evidence, Model


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


def removals(evidence: Evidence, best: Mixture) -> dict[str, Contributions]:
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


def first_order(evidence: Evidence, best: Mixture) -> dict[str, Contributions]:
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


def _compared(evidence: Evidence, models: Iterable[tuple[Model, Model]]) -> Contributions:
    rows = [evidence.differences(less, more) for less, more in models]
    values = np.array([[one.difference for one in row] for row in rows])
    return Contributions(values, np.array([[one.standard_error for one in row] for row in rows]))
