"""Boosted regression trees on the raw weights, as RegMix used them (Liu et al. 2024, arXiv 2407.01492, section 3).

Trees say nothing of their own uncertainty: the deviation is that of the out-of-fold residuals, the same everywhere.
The folds are cut again whenever the evidence has grown by a quarter; what came since is out of every fold. Gradients
are not used. Kept as its evidence and refitted, which gives the same numbers.
"""

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from search.surrogates.surrogate import Floats, Observations, Prediction, fitting_prefix, folds

_PARTS = 5


class BoostedTreesSurrogate:
    """Gradient boosting with few leaves a tree and half of the evaluations for each."""

    def __init__(self) -> None:
        self._folded: tuple[int, list[GradientBoostingRegressor]] | None = None
        self._model: GradientBoostingRegressor | None = None
        self._out_of_fold: Floats | None = None
        self._deviation = np.nan

    def fit(self, observations: Observations) -> None:
        """Grow the trees on all values; the folds are those of a prefix of them."""
        prefix = fitting_prefix(len(observations))
        parts = folds(prefix, _PARTS)
        if self._folded is None or self._folded[0] != prefix:
            self._folded = (prefix, [_grow(observations, np.setdiff1d(np.arange(prefix), part)) for part in parts])
        self._model = _grow(observations, np.arange(len(observations)))
        every = np.stack([model.predict(observations.weights) for model in self._folded[1]])
        self._out_of_fold = every.mean(axis=0)
        for row, part in zip(every, parts, strict=True):
            self._out_of_fold[part] = row[part]
        self._deviation = max(float(np.sqrt(np.mean((self._out_of_fold - observations.values) ** 2))), 1e-9)

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K)."""
        if self._model is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._spread(self._model.predict(weights))

    def out_of_fold(self) -> Prediction:
        """Predict each fitted mixture (N,) by trees that were grown without it."""
        if self._out_of_fold is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._spread(self._out_of_fold)

    def _spread(self, mean: Floats) -> Prediction:
        return Prediction(mean, np.full(len(mean), self._deviation))


def _grow(observations: Observations, which: np.ndarray[tuple[int], np.dtype[np.int64]]) -> GradientBoostingRegressor:
    model = GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_leaf_nodes=6, max_depth=None, subsample=0.5, random_state=0
    )
    return model.fit(observations.weights[which], observations.values[which])
