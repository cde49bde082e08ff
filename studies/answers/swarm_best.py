"""The verb `best` on a table: the best mixture as predicted, beside uniform and the best model already trained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import optuna

from objectives.agreement.bootstrap import Interval
from objectives.held_out import Floats
from pool.mixture import SUM_TOLERANCE, Mixture
from search.trials import Counts, count_trials
from studies.answers.goal_predictor import Accuracy, GoalPredictor
from studies.answers.score import Json
from studies.opened.on_table import COVERAGE, SwarmBench
from studies.opened.opened_study import best_mixture


@dataclass(frozen=True)
class SwarmForecast:
    """One value, or one metric, of one mixture: predicted, and measured where a model was trained on the mixture.

    What was measured is predicted from the other runs only, as fitting would have hidden how far off it may be.
    """

    predicted: Interval
    measured: float | None = None


@dataclass(frozen=True)
class SwarmStanding:
    """One contender: the goal's value and its metrics, and whether the study's space allows it."""

    mixture: Mixture
    value: SwarmForecast
    metrics: Mapping[str, SwarmForecast]
    feasible: bool


@dataclass(frozen=True)
class SwarmPoint:
    """A mixture that no other evaluated one beats in every objective; its predicted values by objective."""

    mixture: Mixture
    predicted: Mapping[str, float]


@dataclass(frozen=True)
class SwarmBest:
    """The best mixture of a study on a table, the baselines by name, and what the predictions are worth.

    `best_run` is the run with the lowest measured value. `distance` is the total variation, half the sum of |w - v|,
    between the best mixture and the nearest run, and `usual_distance` the median of that between a run and its
    nearest. `unseen` is None where the table has no runs to test on. `front` is the Pareto front of a study of several
    objectives, else empty.
    """

    study: str
    best: SwarmStanding
    baselines: Mapping[str, SwarmStanding]
    best_run: str
    distance: float
    usual_distance: float
    out_of_fold: Accuracy
    unseen: Accuracy | None
    counts: Counts
    front: Sequence[SwarmPoint] = ()

    def as_json(self) -> Json:
        """Give the object that `best --json` prints."""
        return {
            "study": self.study,
            "mixture": self.best.mixture.as_dict(),
            "coverage": COVERAGE,
            "best": _standing_json(self.best),
            "baselines": {name: _standing_json(standing) for name, standing in self.baselines.items()},
            "best_run": self.best_run,
            "distance": self.distance,
            "usual_distance": self.usual_distance,
            "out_of_fold": asdict(self.out_of_fold),
            "unseen": asdict(self.unseen) if self.unseen else None,
            "counts": asdict(self.counts),
            "front": [{"mixture": one.mixture.as_dict(), "predicted": dict(one.predicted)} for one in self.front],
        }


def find_swarm_best(bench: SwarmBench, study: optuna.Study) -> SwarmBest:
    """Take the trial with the lowest predicted value, and predict it and the baselines with their intervals.

    Raises `StudyError` when no trial has a value yet.
    """
    table, best = bench.swarm.table, best_mixture(bench, study)
    goal = GoalPredictor(bench.swarm, bench.target, coverage=COVERAGE)
    lowest = int(np.argmin(goal.measured(table)))
    run = Mixture.from_array(table.names, table.weights[lowest])
    baselines = {"uniform": _standing(bench, goal, Mixture.uniform(table.names))}
    baselines["best_run"] = _standing(bench, goal, run)
    return SwarmBest(
        bench.config.name,
        _standing(bench, goal, best),
        baselines,
        best_run=table.runs[lowest],
        distance=float(_distances(best.array, table.weights).min()),
        usual_distance=_usual_distance(table.weights),
        out_of_fold=goal.accuracy(),
        unseen=goal.accuracy(bench.unseen) if bench.unseen else None,
        counts=count_trials(study),
        front=_front(bench, study),
    )


def _standing(bench: SwarmBench, goal: GoalPredictor, mixture: Mixture) -> SwarmStanding:
    row = _row_of(mixture, bench.swarm.table.weights)

    def forecast(predictor: GoalPredictor) -> SwarmForecast:
        if row is None:
            return SwarmForecast(predictor.predict(mixture.array[None])[0])
        return SwarmForecast(predictor.out_of_fold()[row], float(predictor.measured(bench.swarm.table)[row]))

    names = bench.target.domains
    metrics = {name: forecast(GoalPredictor.of_metric(bench.swarm, name, coverage=COVERAGE)) for name in names}
    return SwarmStanding(mixture, forecast(goal), metrics, bench.space.contains(mixture))


def _front(bench: SwarmBench, study: optuna.Study) -> list[SwarmPoint]:
    if not bench.several:
        return []
    names = list(bench.config.targets)
    points = [
        SwarmPoint(bench.space.mixture_of(trial), dict(zip(names, trial.values, strict=True)))
        for trial in study.best_trials
    ]
    return sorted(points, key=lambda point: list(point.predicted.values()))


def _row_of(mixture: Mixture, runs: Floats) -> int | None:
    """Find the run that was trained on a mixture, the first of equals."""
    same = np.flatnonzero(np.abs(runs - mixture.array).max(axis=1) < SUM_TOLERANCE)
    return int(same[0]) if len(same) else None


def _distances(weights: Floats, runs: Floats) -> Floats:
    distances: Floats = np.abs(runs - weights).sum(axis=1) / 2
    return distances


def _usual_distance(runs: Floats) -> float:
    nearest = [_distances(row, np.delete(runs, at, axis=0)).min() for at, row in enumerate(runs)]
    return float(np.median(nearest))


def _standing_json(standing: SwarmStanding) -> Json:
    return {
        "mixture": standing.mixture.as_dict(),
        "feasible": standing.feasible,
        **asdict(standing.value),
        "metrics": {name: asdict(one) for name, one in standing.metrics.items()},
    }
