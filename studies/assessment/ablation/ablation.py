"""The answers of `ablate` in frozen values: contributions of partitions, and the dependence of the best on factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from objectives.agreement.statistics import Interval
from objectives.held_out import CONFIDENT, Floats
from objectives.merging.rules import MergeRule
from objectives.scoring.paired import PairedDifference
from objectives.target import Measure
from pool.config.recipe import Recipe
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from studies.answers.score import Json, paired_json
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


@dataclass(frozen=True)
class Combination:
    """One value for each factor, as written, with the rule and the members' recipe under it."""

    values: Mapping[str, str]
    rule: MergeRule
    recipe: Recipe

    @property
    def name(self) -> str:
        return ", ".join(f"{factor} {value}" for factor, value in self.values.items())


@dataclass(frozen=True)
class Outcome:
    """The best mixture under a setting, its value on the search split, and the values (DESIGN,) of the design."""

    setting: Combination
    best: Mixture
    value: float
    design: Sequence[float]


@dataclass(frozen=True)
class TwoSettings:
    """Two settings, by their places.

    spearman: of the design's values under both, with an interval over mixtures
    regrets: on the test split, of the best mixture of each under the other, less the best there
    """

    settings: tuple[int, int]
    spearman: Interval
    regrets: tuple[PairedDifference, PairedDifference]

    @property
    def worst(self) -> PairedDifference:
        return max(self.regrets, key=lambda one: one.difference)


@dataclass(frozen=True)
class FactorAblation:
    """Whether the best mixture depends on factors; `margin`: a regret too small to matter."""

    study: str
    measure: str
    outcomes: Sequence[Outcome]
    pairs: Sequence[TwoSettings]
    margin: float

    @property
    def factors(self) -> tuple[str, ...]:
        return tuple(self.outcomes[0].setting.values)

    def pairs_of(self, factor: str) -> list[TwoSettings]:
        """List the pairs of settings that differ in one factor alone."""
        alone = []
        for pair in self.pairs:
            one, other = (self.outcomes[at].setting.values for at in pair.settings)
            if [name for name in one if one[name] != other[name]] == [factor]:
                alone.append(pair)
        return alone

    def depends_on(self, factor: str) -> bool:
        """Tell whether a winner under one value is worse under another, beyond chance and by more than the margin."""
        regrets = [regret for pair in self.pairs_of(factor) for regret in pair.regrets]
        return any(one.told_apart and one.difference > self.margin for one in regrets)

    def verdict(self, factor: str) -> str:
        pairs = self.pairs_of(factor)
        worst, least = max((one.worst for one in pairs), key=lambda one: one.difference), _least_alike(pairs)
        answer = "depends" if self.depends_on(factor) else "does not depend"
        return (
            f"The best mixture {answer} on {factor}. At worst, the best of one value is behind that of another by "
            f"{worst} (test split; {self.margin:.4f} would be small). Least rank correlation of mixtures: {least}."
        )

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "measure": self.measure,
            "margin": self.margin,
            "settings": [
                {**one.setting.values, "mixture": one.best.as_dict(), "value": one.value, "design": list(one.design)}
                for one in self.outcomes
            ],
            "pairs": [
                {
                    "settings": list(one.settings),
                    "spearman": one.spearman.as_json(),
                    "regrets": [paired_json(regret) for regret in one.regrets],
                }
                for one in self.pairs
            ],
            "factors": {
                name: {"depends": self.depends_on(name), "verdict": self.verdict(name)} for name in self.factors
            },
        }


def _least_alike(pairs: Sequence[TwoSettings]) -> Interval:
    return min((one.spearman for one in pairs), key=lambda one: one.value)
