"""The answer of `ablate` in one frozen value: contributions, interactions, and their reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from objectives.held_out import CONFIDENT, Floats
from objectives.target import Measure
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from studies.answers.score import Json
from studies.assessment.ablation.contributions import Contributions, GameName
from studies.assessment.ablation.shapley import Interactions

if TYPE_CHECKING:
    from studies.assessment.ablation.ranking import RankAgreement

GOAL = "goal"
SEED = "seed"


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """Shapley values of the K partitions in every column, with two errors.

    contributions: with the error over documents
    sampling_errors: of the estimate (K, C), zero if exact
    sampling_confident: sampling errors in half a 95 % interval
    stability: mean rank correlation (C,) of the partitions' order with the order on drawn documents
    """

    game: GameName
    method: str
    exact: bool
    contributions: Contributions
    sampling_errors: Floats
    sampling_confident: float
    stability: Sequence[RankAgreement]

    @property
    def half_widths(self) -> Floats:
        """Half of the 95 % intervals (K, C), over documents and estimate together."""
        assert self.contributions.errors is not None, "estimated on drawn documents"
        sampling = self.sampling_confident * self.sampling_errors
        together: Floats = np.hypot(CONFIDENT * self.contributions.errors, sampling)
        return together


@dataclass(frozen=True, eq=False)
class Ablation:
    """Contributions of K partitions to C columns, the goal first, on one split, in the goal's measure.

    mixtures: best, uniform and worst
    controls: losses (C,) of those mixtures and of the seed
    quantities: all contributions but the Shapley values, by name
    texts: agreement with the ranking on other text, by its kind
    merged: mixtures merged anew
    """

    study: str
    split: Split
    measure: Measure
    partitions: tuple[str, ...]
    domains: tuple[str, ...]
    mixtures: Mapping[str, Mixture]
    controls: Mapping[str, Floats]
    shapley: ShapleyValues
    quantities: Mapping[str, Contributions]
    interactions: Interactions
    texts: Mapping[str, RankAgreement]
    merged: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns for people, no keys: a domain may be called `goal` too."""
        return (GOAL, *self.domains)

    @property
    def contributions(self) -> dict[str, Contributions]:
        return {"shapley": self.shapley.contributions, **self.quantities}

    def as_json(self) -> Json:
        shapley = self.shapley
        return {
            "study": self.study,
            "split": self.split,
            "measure": self.measure,
            "mixtures": {name: mixture.as_dict() for name, mixture in self.mixtures.items()},
            "losses": {name: self._by_column(row) for name, row in self.controls.items()},
            "shapley": {
                "game": shapley.game,
                "method": shapley.method,
                "exact": shapley.exact,
                "half_widths_95": self._table(shapley.half_widths),
                "sampling_errors": self._table(shapley.sampling_errors),
                "rank_stability": self._agreements(shapley.stability),
            },
            "contributions": {
                quantity: {
                    "values": self._table(found.values),
                    "standard_errors": None if found.errors is None else self._table(found.errors),
                }
                for quantity, found in self.contributions.items()
            },
            "interactions": {
                "kind": self.interactions.kind,
                "values": {
                    name: dict(zip(self.partitions, row, strict=True))
                    for name, row in zip(self.partitions, self.interactions.values.tolist(), strict=True)
                },
            },
            "rank_agreement_with_other_text": {name: asdict(one) for name, one in self.texts.items()},
            "merged": self.merged,
        }

    def _table(self, values: Floats) -> Json:
        return {name: self._by_column(row) for name, row in zip(self.partitions, values, strict=True)}

    def _by_column(self, row: Floats) -> Json:
        numbers = [value if math.isfinite(value) else None for value in row.tolist()]
        return {"goal": numbers[0], "domains": dict(zip(self.domains, numbers[1:], strict=True))}

    def _agreements(self, stability: Sequence[RankAgreement]) -> Json:
        shown = [asdict(one) for one in stability]
        return {"goal": shown[0], "domains": dict(zip(self.domains, shown[1:], strict=True))}
