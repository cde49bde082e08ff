"""Predict the value after training from a mixture's merge, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from objectives.agreement.calibration import ALPHA, LEAST_TRUTHS, Calibration
from objectives.agreement.statistics import Interval
from pool.corpus.corpus import SPLITS, Split
from pool.errors import StudyError
from pool.mixture import Mixture
from studies.answers.score import Json
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths


@dataclass(frozen=True)
class Forecast:
    """The merge's value (`proxy`) and the predicted value after training, on one split."""

    proxy: float
    predicted: Interval


@dataclass(frozen=True, eq=False)
class Forecaster:
    """The corrections learnt from truths, by split."""

    instruments: Instruments
    calibrations: Mapping[Split, Calibration]

    @classmethod
    def learn(cls, instruments: Instruments, truths: Truths, proxies: Mapping[Split, Readings]) -> Forecaster:
        weights = np.stack([mixture.array for mixture in truths.mixtures.values()])
        calibrations = {
            split: Calibration.fit(weights, proxies[split][VALUE], truths.readings[split][VALUE]) for split in SPLITS
        }
        return cls(instruments, calibrations)

    def forecast(self, mixture: Mixture) -> dict[Split, Forecast]:
        """Merge a mixture and predict its value after training, by split."""
        found: dict[Split, Forecast] = {}
        weights = mixture.over(self.instruments.pool.names).array[None]
        for split in SPLITS:
            proxy = self.instruments.read(split, [self.instruments.proxy_loss(split)(mixture)])[VALUE]
            (predicted,) = self.calibrations[split].intervals(weights, proxy)
            found[split] = Forecast(float(proxy[0]), predicted)
        return found

    def as_json(self) -> Json:
        return {
            split: {
                "family": one.family.name,
                "leave_one_out_rmse": one.rmse,
                "truths": len(one.errors),
                "nominal_coverage": 1 - ALPHA,
            }
            for split, one in self.calibrations.items()
        }


def proxies_of(instruments: Instruments, truths: Truths) -> dict[Split, Readings]:
    """Merge the mixtures with known truth. Raises `StudyError` for too few."""
    if len(truths.mixtures) < LEAST_TRUTHS:
        raise StudyError(
            f"study {instruments.study!r} knows the truth of {len(truths.mixtures)} mixtures, a prediction "
            f"needs {LEAST_TRUTHS}: train some with `mixscout fidelity` on its file, or give --truths with more runs"
        )
    return {split: instruments.merged(split, list(truths.mixtures.values())) for split in SPLITS}


def forecast_json(forecasts: Mapping[Split, Forecast]) -> Json:
    return {split: {"proxy": one.proxy, "predicted": one.predicted.as_json()} for split, one in forecasts.items()}
