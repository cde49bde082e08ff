"""Contributions of partitions to each column's loss: in coalitions, left out, added, or predicted from a gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from objectives.held_out import Floats
from pool.mixture import Mixture
from studies.assessment.ablation.evidence import DomainEvidence, Model
from studies.assessment.ablation.shapley import Coalitions

GameName = Literal["uniform", "best"]


@dataclass(frozen=True)
class Game:
    """A coalition S is worth minus the loss of the mixture `whole`, restricted to S and renormalised.

    The empty coalition is the seed checkpoint. Partitions without weight in the whole are no `players`; their Shapley
    value is 0.
    """

    whole: Mixture

    @property
    def players(self) -> tuple[str, ...]:
        return self.whole.support

    def model(self, coalition: Coalitions) -> Model:
        """Return the mixture of a coalition (K,) of players; None, the seed, for the empty coalition."""
        chosen = [name for name, there in zip(self.players, coalition, strict=True) if there]
        return restricted(self.whole, chosen)

    def values(self, coalitions: Coalitions, evidence: DomainEvidence) -> Floats:
        """Return minus the loss of coalitions (N, K) in every column (N, C)."""
        return -np.stack([evidence.values(self.model(coalition)) for coalition in coalitions])


def restricted(mixture: Mixture, names: Sequence[str]) -> Model:
    """Keep some partitions of a mixture and renormalise; None, the seed, for nothing."""
    kept = {name: weight if name in names else 0.0 for name, weight in mixture.as_dict().items()}
    return Mixture.proportional(kept) if any(kept.values()) else None


def without(mixture: Mixture, name: str) -> Model:
    """Take a partition out of a mixture and renormalise; None, the seed, for nothing."""
    return restricted(mixture, [other for other in mixture.names if other != name])


def with_added(mixture: Mixture, name: str, weight: float) -> Mixture:
    """Add a partition at `weight`, and scale the mixture down to make room."""
    added = (1 - weight) * mixture.array + weight * Mixture.vertex(mixture.names, name).array
    return Mixture.from_array(mixture.names, added / added.sum())


@dataclass(frozen=True, eq=False)
class Contributions:
    """How much each partition lowers each column's loss (K, C), the goal first, in the goal's measure.

    values: below zero, the partition harms
    errors: standard errors over documents (K, C), infinite for a single document; None if unknown
    """

    values: Floats
    errors: Floats | None = None

    def of(self, row: int, column: int) -> tuple[float, float | None]:
        return float(self.values[row, column]), None if self.errors is None else float(self.errors[row, column])


def removals(evidence: DomainEvidence, best: Mixture) -> dict[str, Contributions]:
    """Leave every partition out, and add every partition, one at a time.

    best-without, uniform-without: the mixture without partition k, renormalised, against the whole
    alone: member k against the seed
    added-to-best: k at weight 1/K and the rest scaled down, against the best
    """
    return {quantity: _compared(evidence, models) for quantity, models in removed_and_added(best).items()}


def removed_and_added(best: Mixture) -> Mapping[str, Iterable[tuple[Model, Model]]]:
    """Return pairs of models to compare by quantity, as `removals` names them."""
    names = best.names
    uniform = Mixture.uniform(names)
    return {
        "best-without": ((without(best, name), best) for name in names),
        "uniform-without": ((without(uniform, name), uniform) for name in names),
        "alone": ((None, Mixture.vertex(names, name)) for name in names),
        "added-to-best": ((best, with_added(best, name, 1 / len(names))) for name in names),
    }


def first_order(evidence: DomainEvidence, best: Mixture) -> dict[str, Contributions]:
    """Predict removals and additions from the gradient g at the best mixture; empty without a gradient.

    Taking k out moves the weights by w_k / (1 - w_k) (w - e_k), so the loss rises by w_k / (1 - w_k) (g'w - g_k):
    gradient times input along the simplex (Shrikumar et al. 2016, arXiv 1605.01713); NaN if nothing is left. Adding
    k at 1/K lowers the loss by (g'w - g_k) / K. At an optimum g_k = g'w for every partition used, and the goal's column
    vanishes; the domains and the unused partitions remain.
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
