"""Predict values after training from merges, with intervals, and propose the mixture with the lowest prediction.

Predictions average the merge rules that the known truths speak for. A Scheffe quadratic stands for each rule's merges
between the known ones. Each of its minima is merged, and the quadratics are fitted again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import optuna

from objectives.agreement.rule_average import LEAST_TRUTHS, RuleAverage
from objectives.agreement.statistics import Interval
from objectives.agreement.two_fidelity import LEVEL
from objectives.held_out import CONFIDENT, Floats
from objectives.merging.rules import MergeRule
from pool.corpus.corpus import SPLITS, Split
from pool.errors import StudyError
from pool.mixture import Mixture
from search.strategies.designs import draw
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Observations
from search.trials import completed_trials, in_full
from studies.answers.score import Json
from studies.assessment.fidelity.fidelity import Proxies, rule_name
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

DRAWN = 512
NEARBY = 256
RADII = (0.2, 0.07, 0.02)


@dataclass(frozen=True)
class Forecast:
    """The value of the merge by the study's rule (`proxy`), and the predicted value after training, on one split."""

    proxy: float
    predicted: Interval


@dataclass(frozen=True, eq=False)
class Forecaster:
    """Predicts truths from merges by all rules that the known truths speak for.

    rules: compared, by name.
    proxies: the merges of the known mixtures; on the test split, by the study's rule and the rules kept alone.
    averages: of the rules kept, by split.
    """

    instruments: Instruments
    truths: Truths
    rules: Mapping[str, MergeRule]
    proxies: Proxies
    averages: Mapping[Split, RuleAverage]

    @classmethod
    def learn(cls, instruments: Instruments, truths: Truths, rules: Mapping[str, MergeRule]) -> Forecaster:
        """Merge the mixtures with known truth by each rule. Raises `StudyError` for too few."""
        _check_count(instruments, truths)
        mixtures = list(truths.mixtures.values())
        proxies: dict[Split, Mapping[str, Readings]] = {"search": instruments.merged("search", mixtures, rules)}
        found = _average(truths, "search", proxies["search"])
        kept = {name: rules[name] for name in (rule_name(instruments.rule), *found.models)}
        proxies["test"] = instruments.merged("test", mixtures, kept)
        tested = _average(truths, "test", {name: proxies["test"][name] for name in found.models})
        return cls(instruments, truths, rules, proxies, {"search": found, "test": tested})

    def forecast(self, mixture: Mixture) -> dict[Split, Forecast]:
        return {split: self._forecast(mixture, split) for split in SPLITS}

    def values_of(self, mixture: Mixture) -> dict[str, float]:
        """Merge a mixture by each rule kept, and return the study's value on the search split."""
        kept = {name: self.rules[name] for name in self.averages["search"].models}
        return {name: float(one[VALUE][0]) for name, one in self._merged(mixture, "search", kept).items()}

    def is_merged(self, mixture: Mixture) -> bool:
        """Tell whether all merges of a mixture by the rules kept are remembered, on the search split."""
        losses = [self.instruments.proxy_loss("search", self.rules[name]) for name in self.averages["search"].models]
        return all(loss.recall(mixture) is not None for loss in losses)

    def rules_behind(self, split: Split) -> str:
        """Name the rules kept with their shares, for people."""
        return ", ".join(f"{name} ({share:.0%})" for name, share in self.averages[split].shares.items())

    def as_json(self) -> Json:
        return {
            split: {
                "rules": dict(one.shares),
                "leave_one_out_rmse": one.rmse(0),
                "truths": len(one.truth),
                "nominal_coverage": LEVEL,
            }
            for split, one in self.averages.items()
        }

    def _forecast(self, mixture: Mixture, split: Split) -> Forecast:
        average, own = self.averages[split], rule_name(self.instruments.rule)
        read = self._merged(mixture, split, {name: self.rules[name] for name in (own, *average.models)})
        weights = mixture.over(self.instruments.pool.names).array[None]
        outputs = {name: _outputs(one, self.truths.readings[split]) for name, one in read.items()}
        (predicted,) = average.intervals(weights, outputs, 0)
        return Forecast(float(read[own][VALUE][0]), predicted)

    def _merged(self, mixture: Mixture, split: Split, rules: Mapping[str, MergeRule]) -> dict[str, Readings]:
        losses = {name: self.instruments.proxy_loss(split, rule) for name, rule in rules.items()}
        return {name: self.instruments.read(split, [loss(mixture)]) for name, loss in losses.items()}


def _average(truths: Truths, split: Split, proxies: Mapping[str, Readings]) -> RuleAverage:
    weights = np.stack([mixture.array for mixture in truths.mixtures.values()])
    readings, noise = truths.readings[split], truths.noise[split]
    deviations = np.array([noise[name].deviation if name in noise else math.nan for name in readings])
    outputs = {rule: _outputs(one, readings) for rule, one in proxies.items()}
    return RuleAverage.fit(weights, outputs, _outputs(readings, readings), noise=deviations)


def _outputs(readings: Readings, names: Iterable[str]) -> Floats:
    """Return named readings (M, E); the study's value is the first name."""
    return np.stack([readings[name] for name in names], axis=1)


def _check_count(instruments: Instruments, truths: Truths) -> None:
    if len(truths.mixtures) < LEAST_TRUTHS:
        raise StudyError(
            f"study {instruments.study.name!r} knows the truth of {len(truths.mixtures)} mixtures, a prediction "
            f"needs {LEAST_TRUTHS}: train some with `mixscout fidelity {instruments.study.typed}`, or give "
            "--truths with more runs"
        )


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


def propose(bench: Workbench, forecaster: Forecaster, study: optuna.Study, *, new_merges: int) -> Proposal:
    """Minimise the prediction of the search split; only mixtures merged by every rule kept are compared."""
    best, average = best_mixture(bench, study).over(bench.proxy.pool.names), forecaster.averages["search"]
    judged = {one.digest: one for one in (best, *forecaster.truths.mixtures.values())}
    values = {digest: forecaster.values_of(one) for digest, one in judged.items()}
    evidence, made = _evidence(bench, study, forecaster), 0
    for number in range(new_merges):
        rows = {rule: [_Row(judged[one].array, values[one][rule]) for one in judged] for rule in average.models}
        surfaces = {rule: _surface([*evidence[rule], *rows[rule]]) for rule in rows}
        starts = [
            row.weights for row in (*evidence[rule_name(forecaster.instruments.rule)], *next(iter(rows.values())))
        ]
        found = _lowest(bench, average, surfaces, starts, np.random.default_rng([bench.config.search.seed, number]))
        if found.digest in judged:
            break
        made += not forecaster.is_merged(found)
        judged[found.digest], values[found.digest] = found, forecaster.values_of(found)
    feasible = [digest for digest in judged if bench.space.contains(judged[digest])] or list(judged)
    proxies = {rule: np.array([values[digest][rule] for digest in feasible]) for rule in average.models}
    predicted = average.means_of(0, np.stack([judged[digest].array for digest in feasible]), proxies)
    mixture = judged[feasible[int(np.argmin(predicted))]]
    margins = {split: CONFIDENT * math.sqrt(2) * one.rmse(0) for split, one in forecaster.averages.items()}
    return Proposal(mixture, best, forecaster.forecast(mixture), forecaster.forecast(best), margins, made)


class _Row(NamedTuple):
    """A mixture (K,) with its proxy, and the proxy's K partials if known."""

    weights: Floats
    value: float
    gradient: Sequence[float] | None = None


def _evidence(bench: Workbench, study: optuna.Study, forecaster: Forecaster) -> dict[str, list[_Row]]:
    """Return what the study's merges say, by rule: that of the study first.

    A merge by the study's rule is the merge of another mixture by another rule, and its value holds there too; not so
    where one of both weighs rows.
    """
    trials = [] if bench.config.downstream else completed_trials(study)  # of downstream scores: no held-out loss
    full = in_full(trials)
    loss, own = bench.losses["search"], forecaster.instruments.rule
    mixtures = {one.digest: one for one in (bench.space.mixture_of(trial).over(bench.space.names) for trial in full)}
    evaluations = [loss(mixture) for mixture in mixtures.values()]
    rows = {rule_name(own): [_Row(one.mixture.array, one.value, one.gradient) for one in evaluations]}
    for name in forecaster.averages["search"].models:
        if name not in rows:
            rule, known = forecaster.rules[name], [] if own.by_rows else evaluations
            found = [(rule.mixture(own.weights(one.mixture.array)), one) for one in known]
            rows[name] = [_Row(weights, one.value) for weights, one in found if weights is not None]
    return rows


def _surface(rows: Sequence[_Row]) -> ScheffeSurrogate:
    surrogate = ScheffeSurrogate()
    weights, values, gradients = zip(*rows, strict=True)
    surrogate.fit(Observations.of_gradients(np.stack(weights), values, gradients))
    return surrogate


def _lowest(
    bench: Workbench,
    average: RuleAverage,
    surfaces: Mapping[str, ScheffeSurrogate],
    starts: Sequence[Floats],
    rng: np.random.Generator,
) -> Mixture:
    space = bench.space

    def lowest(points: Floats) -> Floats:
        weights = np.stack([space.project(point).array for point in points])
        proxies = {rule: surface.predict(weights).mean for rule, surface in surfaces.items()}
        best: Floats = weights[int(np.argmin(average.means_of(0, weights, proxies)))]
        return best

    # The best is projected again each round, which may move its last digit; without, a study proposes otherwise.
    best = lowest(np.stack([*starts, *(draw(space, rng).array for _ in range(DRAWN))]))
    for radius in RADII:
        best = lowest(np.vstack([best, best + radius * rng.normal(size=(NEARBY, len(best)))]))
    return space.project(best)
