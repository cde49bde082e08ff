"""Propose the mixture with the lowest calibrated prediction.

A Scheffe quadratic stands for the proxy between the known merges. Each minimum is merged, and the quadratic is fitted
again; in the end only merged mixtures are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from objectives.agreement.calibration import Calibration
from objectives.evaluation import Evaluation
from objectives.held_out import CONFIDENT
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from search.designs import draw
from search.space import CappedSimplex
from search.strategies.surrogate import lowest_near
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Floats, Observations
from search.trials import STOPPED_EARLY, completed_trials
from studies.assessment.fidelity.forecast import Forecast, Forecaster
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

DRAWN = 512
NEARBY = 256
RADII = (0.2, 0.07, 0.02)


@dataclass(frozen=True)
class Proposal:
    """The proposed mixture and the study's best one, with forecasts by split.

    margins: error of the difference of two predictions (95 %)
    """

    mixture: Mixture
    best_mixture: Mixture
    forecasts: dict[Split, Forecast]
    best: dict[Split, Forecast]
    margins: dict[Split, float]
    new_merges: int

    def ahead(self, split: Split) -> float:
        """Return the predicted lead over the best mixture."""
        return self.best[split].predicted.value - self.forecasts[split].predicted.value

    def told_apart(self, split: Split) -> bool:
        """Whether the lead is beyond the margin."""
        return abs(self.ahead(split)) > self.margins[split]


def propose(
    bench: Workbench, forecaster: Forecaster, study: optuna.Study, known: Sequence[Mixture], *, new_merges: int
) -> Proposal:
    """Minimise the calibrated prediction of the search split over the study's space."""
    calibration = forecaster.calibrations["search"]
    best = best_mixture(bench, study).over(bench.pool.names)
    evaluations = [bench.losses["search"](mixture) for mixture in _merged(bench, study, [best, *known])]
    made = 0
    for number in range(new_merges):
        found = _lowest(
            bench.space, calibration, evaluations, np.random.default_rng([bench.config.search.seed, number])
        )
        if found.digest in {one.mixture.digest for one in evaluations}:
            break
        evaluations.append(_evaluate(bench, found))
        made += not evaluations[-1].cached
    feasible = [one for one in evaluations if bench.space.contains(one.mixture)] or evaluations
    predicted = calibration.predict(_weights(feasible), np.array([one.value for one in feasible]))
    mixture = feasible[int(np.argmin(predicted))].mixture
    margins = {split: CONFIDENT * math.sqrt(2) * one.rmse for split, one in forecaster.calibrations.items()}
    return Proposal(mixture, best, forecaster.forecast(mixture), forecaster.forecast(best), margins, made)


def _merged(bench: Workbench, study: optuna.Study, others: Sequence[Mixture]) -> list[Mixture]:
    """List `others` and the mixtures of fully merged trials, each once.

    A study of downstream scores has no trials with held-out loss.
    """
    trials = [] if bench.config.downstream else completed_trials(study)
    full = [trial for trial in trials if not trial.user_attrs.get(STOPPED_EARLY)]
    mixtures = [*others, *(bench.space.mixture_of(trial).over(bench.pool.names) for trial in full)]
    return list({mixture.digest: mixture for mixture in mixtures}.values())


def _evaluate(bench: Workbench, mixture: Mixture) -> Evaluation:
    objective = bench.losses["search"]
    if bench.config.search.strategy_found.uses_gradient and objective.gradient is not None:
        return objective.gradient(mixture)
    return objective(mixture)


def _lowest(
    space: CappedSimplex, calibration: Calibration, evaluations: Sequence[Evaluation], rng: np.random.Generator
) -> Mixture:
    surrogate = ScheffeSurrogate()
    values = [one.value for one in evaluations]
    surrogate.fit(Observations.of_gradients(_weights(evaluations), values, [one.gradient for one in evaluations]))

    def predicted(weights: Floats) -> Floats:
        return calibration.predict(weights, surrogate.predict(weights).mean)

    start = [one.mixture.array for one in evaluations] + [draw(space, rng).array for _ in range(DRAWN)]
    rounds = (radius * rng.normal(size=(NEARBY, len(space.names))) for radius in RADII)
    return space.project(lowest_near(predicted, space.weights_of(np.stack(start)), rounds, space))


def _weights(evaluations: Sequence[Evaluation]) -> Floats:
    return np.stack([one.mixture.array for one in evaluations])
