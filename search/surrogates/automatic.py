"""The surrogate families by name, and their combination by out-of-fold errors.

No family wins on merges and on really trained swarms alike. Nearly equal families are averaged, because out-of-fold
errors cannot tell them apart: on RegMix's swarm, from 64 runs on, the best family alone was up to 0.006 of Spearman
below the best in hindsight, and the average mostly above.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from search.surrogates.additive_process import AdditiveProcessSurrogate
from search.surrogates.gaussian_process import TRANSFORMS, GaussianProcessSurrogate
from search.surrogates.mixing_law import MixingLawSurrogate
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Floats, Observations, Places, Prediction, Surrogate, TwoStepSurrogate, folds

if TYPE_CHECKING:
    from sklearn.ensemble import GradientBoostingRegressor


@dataclass(frozen=True, eq=False)
class _Grown:
    """Trees on all values, with the means (N,) of trees grown without each value."""

    trees: GradientBoostingRegressor
    held_out: Floats
    deviation: float

    def predict(self, weights: Floats) -> Prediction:
        return self._spread(self.trees.predict(weights))

    def out_of_fold(self) -> Prediction:
        return self._spread(self.held_out)

    def _spread(self, mean: Floats) -> Prediction:
        return Prediction(mean, np.full(len(mean), self.deviation))


class BoostedTreesSurrogate(TwoStepSurrogate["list[tuple[Places, GradientBoostingRegressor]]", _Grown]):
    """Gradient boosting with few leaves a tree, each tree on half of the evaluations."""

    def choose(self, observations: Observations) -> list[tuple[Places, GradientBoostingRegressor]]:
        every = np.arange(len(observations))
        return [(part, _grow(observations.take(np.setdiff1d(every, part)))) for part in folds(len(observations))]

    def condition(self, choice: list[tuple[Places, GradientBoostingRegressor]], observations: Observations) -> _Grown:
        """Grow trees on all values; a value since the last cut is out of every fold."""
        every = np.stack([model.predict(observations.weights) for _, model in choice])
        held_out = every.mean(axis=0)
        for row, (part, _) in zip(every, choice, strict=True):
            held_out[part] = row[part]
        deviation = max(float(np.sqrt(np.mean((held_out - observations.values) ** 2))), 1e-9)
        return _Grown(_grow(observations), held_out, deviation)


def _grow(observations: Observations) -> GradientBoostingRegressor:
    from sklearn.ensemble import GradientBoostingRegressor  # takes two seconds

    model = GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_leaf_nodes=6, max_depth=None, subsample=0.5, random_state=0
    )
    return model.fit(observations.weights, observations.values)


FAMILIES: Mapping[str, Callable[[], Surrogate]] = {
    "scheffe": ScheffeSurrogate,
    "mixing_law": MixingLawSurrogate,
    **{f"gaussian_process_{name}": partial(GaussianProcessSurrogate, (name,)) for name in TRANSFORMS},
    **{f"additive_process_{name}": partial(AdditiveProcessSurrogate, (name,)) for name in ("sqrt", "log")},
    "boosted_trees": BoostedTreesSurrogate,
}
_SHARPNESS = 4
_LEAST_WEIGHT = 0.05


@dataclass(frozen=True, eq=False)
class _Weighed:
    """Families by name: the `errors` of all, and the `chosen` with their shares."""

    errors: dict[str, float]
    chosen: dict[str, tuple[float, Surrogate]]

    def predict(self, weights: Floats) -> Prediction:
        return _pooled([(share, surrogate.predict(weights)) for share, surrogate in self.chosen.values()])

    def out_of_fold(self) -> Prediction:
        return _pooled([(share, surrogate.out_of_fold()) for share, surrogate in self.chosen.values()])


class AutomaticSurrogate(TwoStepSurrogate[_Weighed, _Weighed]):
    """Several families, weighted by their out-of-fold root mean squared errors to the power of -4.

    Families that disagree widen the deviation.
    """

    def __init__(self, families: Mapping[str, Callable[[], Surrogate]] = FAMILIES) -> None:
        super().__init__()
        self._families = families

    @property
    def family(self) -> str:
        """The name of the weightiest family. Raises `RuntimeError` before the first fit."""
        return max(self.shares, key=self.shares.__getitem__)

    @property
    def shares(self) -> dict[str, float]:
        """The weights of the families in use, summing to one. Raises `RuntimeError` before the first fit."""
        return {name: share for name, (share, _) in self.fitted.chosen.items()}

    @property
    def errors(self) -> dict[str, float]:
        """Every family's out-of-fold root mean squared error when last weighed, nats per token."""
        return dict(self.fitted.errors)

    def choose(self, observations: Observations) -> _Weighed:
        fitted = {name: make() for name, make in self._families.items()}
        for surrogate in fitted.values():
            surrogate.fit(observations)
        errors = {name: _error(surrogate, observations.values) for name, surrogate in fitted.items()}
        best = max(min(errors.values()), 1e-12)
        scores = {name: (best / max(error, 1e-12)) ** _SHARPNESS for name, error in errors.items()}
        kept = {name: score for name, score in scores.items() if score >= _LEAST_WEIGHT * sum(scores.values())}
        return _Weighed(errors, {name: (score / sum(kept.values()), fitted[name]) for name, score in kept.items()})

    def condition(self, choice: _Weighed, observations: Observations) -> _Weighed:
        for _, surrogate in choice.chosen.values():
            surrogate.fit(observations)
        return choice


def _pooled(predictions: list[tuple[float, Prediction]]) -> Prediction:
    mean = np.sum([share * prediction.mean for share, prediction in predictions], axis=0)
    variances = [share * (given.deviation**2 + (given.mean - mean) ** 2) for share, given in predictions]
    return Prediction(mean, np.sqrt(np.sum(variances, axis=0)))


def _error(surrogate: Surrogate, values: Floats) -> float:
    return float(np.sqrt(np.mean((surrogate.out_of_fold().mean - values) ** 2)))


SURROGATES: Mapping[str, Callable[[], Surrogate]] = {
    "automatic": AutomaticSurrogate,
    "scheffe": ScheffeSurrogate,
    "mixing_law": MixingLawSurrogate,
    "gaussian_process": GaussianProcessSurrogate,
    "additive_process": AdditiveProcessSurrogate,
    "boosted_trees": BoostedTreesSurrogate,
}
