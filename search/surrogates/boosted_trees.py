"""Boosted regression trees on the raw weights, as in RegMix (Liu et al. 2024, arXiv 2407.01492, section 3).

Trees give no uncertainty: the deviation is that of the out-of-fold residuals, the same everywhere. Gradients are not
used.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from search.surrogates.surrogate import Floats, Observations, Places, Prediction, TwoStepSurrogate, folds


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


class BoostedTreesSurrogate(TwoStepSurrogate[list[tuple[Places, GradientBoostingRegressor]], _Grown]):
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
    model = GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_leaf_nodes=6, max_depth=None, subsample=0.5, random_state=0
    )
    return model.fit(observations.weights, observations.values)
