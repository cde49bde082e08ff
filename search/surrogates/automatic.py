"""The families by their out-of-fold errors: none wins on merges and on really trained swarms alike.

Where one family is clearly best it decides alone; families that are nearly as good are averaged, because out-of-fold
errors cannot tell them apart (on RegMix's table taking the best alone was up to 0.006 of Spearman below the best in
hindsight, from 64 runs on; the average mostly was above it). Weighed again whenever the evidence has grown by a
quarter. Each transform of a Gaussian process counts as a family. Kept as its evidence and refitted.

The surrogates by name.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from search.surrogates.additive_process import AdditiveProcessSurrogate
from search.surrogates.boosted_trees import BoostedTreesSurrogate
from search.surrogates.gaussian_process import TRANSFORMS, GaussianProcessSurrogate
from search.surrogates.mixing_law import MixingLawSurrogate
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Floats, Observations, Prediction, Surrogate, fitting_prefix

FAMILIES: Mapping[str, Callable[[], Surrogate]] = {
    "scheffe": ScheffeSurrogate,
    "mixing_law": MixingLawSurrogate,
    **{f"gaussian_process_{name}": partial(GaussianProcessSurrogate, (name,)) for name in TRANSFORMS},
    **{f"additive_process_{name}": partial(AdditiveProcessSurrogate, (name,)) for name in ("sqrt", "log")},
    "boosted_trees": BoostedTreesSurrogate,
}
_SHARPNESS = 4
_LEAST_WEIGHT = 0.05


class AutomaticSurrogate:
    """Several families, each weighing as its out-of-fold root mean squared error to the power of -4."""

    def __init__(self, families: Mapping[str, Callable[[], Surrogate]] = FAMILIES) -> None:
        self._families = families
        self._weighed_at = 0
        self._errors: dict[str, float] = {}
        self._chosen: dict[str, tuple[float, Surrogate]] = {}

    @property
    def family(self) -> str:
        """The name of the family that weighs most. Raises `RuntimeError` before the first fit."""
        return max(self.shares, key=self.shares.__getitem__)

    @property
    def shares(self) -> dict[str, float]:
        """The weights of the families in use, summing to one. Raises `RuntimeError` before the first fit."""
        return {name: share for name, (share, _) in self._ready().items()}

    @property
    def errors(self) -> dict[str, float]:
        """Every family's out-of-fold root mean squared error when last weighed, nats per token."""
        self._ready()
        return dict(self._errors)

    def fit(self, observations: Observations) -> None:
        """Weigh the families on a prefix of the evidence, then fit those in use to all of it."""
        prefix = fitting_prefix(len(observations))
        if self._weighed_at != prefix:
            self._weigh(observations.take(slice(prefix)))
            self._weighed_at = prefix
        for _, surrogate in self._chosen.values():
            surrogate.fit(observations)

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K); families that disagree widen the deviation."""
        return _pool([(share, surrogate.predict(weights)) for share, surrogate in self._ready().values()])

    def out_of_fold(self) -> Prediction:
        """Predict each fitted mixture (N,) from others only."""
        return _pool([(share, surrogate.out_of_fold()) for share, surrogate in self._ready().values()])

    def _weigh(self, observations: Observations) -> None:
        fitted = {name: make() for name, make in self._families.items()}
        for surrogate in fitted.values():
            surrogate.fit(observations)
        self._errors = {name: _error(surrogate, observations.values) for name, surrogate in fitted.items()}
        best = max(min(self._errors.values()), 1e-12)
        scores = {name: (best / max(error, 1e-12)) ** _SHARPNESS for name, error in self._errors.items()}
        kept = {name: score for name, score in scores.items() if score >= _LEAST_WEIGHT * sum(scores.values())}
        self._chosen = {name: (score / sum(kept.values()), fitted[name]) for name, score in kept.items()}

    def _ready(self) -> dict[str, tuple[float, Surrogate]]:
        if not self._chosen:
            raise RuntimeError("fit the surrogate before asking it")
        return self._chosen


def _pool(predictions: list[tuple[float, Prediction]]) -> Prediction:
    """Return mean and deviation of the mixture of normal laws."""
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
