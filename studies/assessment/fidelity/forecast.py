"""Predict values after training from merges, with intervals, and propose the mixture with the lowest prediction.

A Scheffe quadratic stands for the proxy between known merges. Each of its minima is merged, and the quadratic is fitted
again; in the end only merged mixtures are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from objectives.agreement.calibration import ALPHA, LEAST_TRUTHS, Calibration
from objectives.agreement.statistics import Interval
from objectives.evaluation import Evaluation
from objectives.held_out import CONFIDENT
from pool.corpus.corpus import SPLITS, Split
from pool.errors import StudyError
from pool.mixture import Mixture
from search.space import CappedSimplex
from search.strategies.designs import draw
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Floats, Observations
from search.trials import STOPPED_EARLY, completed_trials
from studies.answers.score import Json
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

DRAWN = 512
NEARBY = 256
RADII = (0.2, 0.07, 0.02)


@dataclass(frozen=True)
class Forecast:
    """The merge's value (`proxy`) and the predicted value after training, on one split."""

    proxy: float
    predicted: Interval


@dataclass(frozen=True, eq=False)
class Forecaster:
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
            f"study {instruments.study.name!r} knows the truth of {len(truths.mixtures)} mixtures, a prediction "
            f"needs {LEAST_TRUTHS}: train some with `mixscout fidelity {instruments.study.typed}`, or give "
            "--truths with more runs"
        )
    return {split: instruments.merged(split, list(truths.mixtures.values())) for split in SPLITS}


def forecast_json(forecasts: Mapping[Split, Forecast]) -> Json:
    return {split: {"proxy": one.proxy, "predicted": one.predicted.as_json()} for split, one in forecasts.items()}


@dataclass(frozen=True)
class Proposal:
    """The proposed and the study's best mixture, with forecasts by split.

    margins: error of the difference of two predictions (95 %)
    new_merges: made to find the proposal
    """

    mixture: Mixture
    best_mixture: Mixture
    forecasts: dict[Split, Forecast]
    best: dict[Split, Forecast]
    margins: dict[Split, float]
    new_merges: int

    def ahead(self, split: Split) -> float:
        return self.best[split].predicted.value - self.forecasts[split].predicted.value

    def told_apart(self, split: Split) -> bool:
        return abs(self.ahead(split)) > self.margins[split]


def propose(
    bench: Workbench, forecaster: Forecaster, study: optuna.Study, known: Sequence[Mixture], *, new_merges: int
) -> Proposal:
    """Minimise the calibrated prediction of the search split."""
    calibration = forecaster.calibrations["search"]
    best = best_mixture(bench, study).over(bench.proxy.pool.names)
    loss = bench.losses["search"]
    evaluate: Callable[[Mixture], Evaluation] = loss
    if bench.config.search.strategy_found.uses_gradient and loss.gradient is not None:
        evaluate = loss.gradient
    trials = [] if bench.config.downstream else completed_trials(study)  # of downstream scores: no held-out loss
    evaluations = [loss(mixture) for mixture in _merged(bench.space, trials, [best, *known])]
    made = 0
    for number in range(new_merges):
        rng = np.random.default_rng([bench.config.search.seed, number])
        found = _lowest(bench.space, calibration, evaluations, rng)
        if found.digest in {one.mixture.digest for one in evaluations}:
            break
        evaluations.append(evaluate(found))
        made += not evaluations[-1].cached
    feasible = [one for one in evaluations if bench.space.contains(one.mixture)] or evaluations
    predicted = calibration.predict(_weights(feasible), np.array([one.value for one in feasible]))
    mixture = feasible[int(np.argmin(predicted))].mixture
    margins = {split: CONFIDENT * math.sqrt(2) * one.rmse for split, one in forecaster.calibrations.items()}
    return Proposal(mixture, best, forecaster.forecast(mixture), forecaster.forecast(best), margins, made)


def _merged(
    space: CappedSimplex, trials: Sequence[optuna.trial.FrozenTrial], others: Sequence[Mixture]
) -> list[Mixture]:
    """List `others` and the mixtures of fully merged trials, each once."""
    full = [trial for trial in trials if not trial.user_attrs.get(STOPPED_EARLY)]
    mixtures = [*others, *(space.mixture_of(trial).over(space.names) for trial in full)]
    return list({mixture.digest: mixture for mixture in mixtures}.values())


def _lowest(
    space: CappedSimplex, calibration: Calibration, evaluations: Sequence[Evaluation], rng: np.random.Generator
) -> Mixture:
    surrogate = ScheffeSurrogate()
    values = [one.value for one in evaluations]
    surrogate.fit(Observations.of_gradients(_weights(evaluations), values, [one.gradient for one in evaluations]))

    def lowest(points: Floats) -> Floats:
        weights = np.stack([space.project(point).array for point in points])
        predicted = calibration.predict(weights, surrogate.predict(weights).mean)
        best: Floats = weights[int(np.argmin(predicted))]
        return best

    # The best is projected again each round, which may move its last digit; without, a study proposes otherwise.
    best = lowest(
        np.stack([*(one.mixture.array for one in evaluations), *(draw(space, rng).array for _ in range(DRAWN))])
    )
    for radius in RADII:
        best = lowest(np.vstack([best, best + radius * rng.normal(size=(NEARBY, len(best)))]))
    return space.project(best)


def _weights(evaluations: Sequence[Evaluation]) -> Floats:
    return np.stack([one.mixture.array for one in evaluations])
