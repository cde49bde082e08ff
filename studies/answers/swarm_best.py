"""The verb `best` on a swarm: the best mixture as predicted, beside trained models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import optuna
from rich.console import Console

from objectives.agreement.statistics import Interval
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.target import Goal
from pool.mixture import SUM_TOLERANCE, Mixture
from search.trials import Counts, completed_trials, count_trials
from studies.answers.doubts import (
    distance_to_runs,
    distances_between,
    doubts_of_mixture,
    doubts_of_scales,
    doubts_of_study,
    implausible,
)
from studies.answers.goal_predictor import Accuracy, GoalPredictor, ScalesAnswer
from studies.answers.score import FrontPoint, Json, directions_json, negated_in, pareto_front, which_is_better
from studies.answers.tables import show_counts, show_front, show_scales, show_weights, weights_in_words
from studies.opened.on_table import COVERAGE, SwarmBench
from studies.opened.opened_study import best_mixture
from studies.terminal import as_html, plain_table


@dataclass(frozen=True)
class SwarmForecast:
    """A prediction, and the measured value of a trained mixture, predicted from the other runs."""

    predicted: Interval
    measured: float | None = None


@dataclass(frozen=True)
class SwarmStanding:
    mixture: Mixture
    value: SwarmForecast
    metrics: Mapping[str, SwarmForecast]
    feasible: bool

    def as_json(self) -> Json:
        return {
            "mixture": self.mixture.as_dict(),
            "feasible": self.feasible,
            **asdict(self.value),
            "metrics": {name: asdict(one) for name, one in self.metrics.items()},
        }


@dataclass(frozen=True)
class SwarmBest:
    """The best mixture of a study on a swarm, baselines, and accuracy of predictions.

    goal: what is optimised
    doubts: sentences to read before the mixture is believed
    best_run: best measured value
    distance: total variation, sum |w - v| / 2, to the nearest run
    usual_distance: median distance of a run from its nearest
    scales: what the scales of a table tell, if there are several
    """

    study: str
    goal: Goal
    best: SwarmStanding
    baselines: Mapping[str, SwarmStanding]
    best_run: str
    distance: float
    usual_distance: float
    out_of_fold: Accuracy
    unseen: Accuracy | None
    counts: Counts
    front: Sequence[FrontPoint] = ()
    doubts: Sequence[str] = ()
    scales: ScalesAnswer | None = None

    @property
    def mixture(self) -> Mixture:
        return self.best.mixture

    def __repr__(self) -> str:
        predicted, words = self.best.value.predicted.value, weights_in_words(self.mixture)
        return f"<mixscout.SwarmBest of {self.study!r}, predicted {predicted:.4f}: {words}>"

    def _repr_html_(self) -> str:
        return as_html(lambda console: show_swarm_best(console, self))

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "doubts": list(self.doubts),
            "mixture": self.best.mixture.as_dict(),
            "direction": directions_json(self.goal),
            "coverage": COVERAGE,
            "best": self.best.as_json(),
            "baselines": {name: standing.as_json() for name, standing in self.baselines.items()},
            "best_run": self.best_run,
            "distance": self.distance,
            "usual_distance": self.usual_distance,
            "out_of_fold": asdict(self.out_of_fold),
            "unseen": asdict(self.unseen) if self.unseen else None,
            "counts": asdict(self.counts),
            "front": [{"mixture": one.mixture.as_dict(), "predicted": dict(one.by_objective)} for one in self.front],
            **({"scales": self.scales.as_json()} if self.scales else {}),
        }


def find_swarm_best(bench: SwarmBench, study: optuna.Study) -> SwarmBest:
    """Predict the best mixture and the baselines. Raises `StudyError` without a value yet."""
    table, best, places = bench.swarm.table, best_mixture(bench, study), bench.swarm.places
    goal = GoalPredictor(bench.swarm, bench.target, coverage=COVERAGE)
    metrics = {name: GoalPredictor.of_metric(bench.swarm, name, coverage=COVERAGE) for name in bench.target.domains}
    best_run = int(np.argmin(bench.target.shown(1.0) * goal.measured(table)))
    run = Mixture.from_array(table.names, table.weights[best_run])

    def standing(mixture: Mixture) -> SwarmStanding:
        by_metric = {name: _forecast(predictor, table, mixture) for name, predictor in metrics.items()}
        return SwarmStanding(mixture, _forecast(goal, table, mixture), by_metric, bench.space.contains(mixture))

    standings = {
        "best mixture": standing(best),
        "uniform": standing(Mixture.uniform(table.names)),
        "best run": standing(run),
    }
    front = pareto_front(study, bench.space, list(bench.config.targets))
    scales = goal.scales(_candidates(bench, study))
    doubts = [
        *doubts_of_study(bench, goal),
        *(doubts_of_scales(scales) if scales else ()),
        *_implausible(goal, metrics, standings),
        *_implausible_front(bench, front),
        *doubts_of_mixture(best, places),
    ]
    return SwarmBest(
        bench.config.name,
        bench.target,
        standings["best mixture"],
        {"uniform": standings["uniform"], "best_run": standings["best run"]},
        best_run=table.runs[best_run],
        distance=distance_to_runs(best, places),
        usual_distance=float(np.median(distances_between(places))),
        out_of_fold=goal.accuracy(),
        unseen=goal.accuracy(bench.unseen) if bench.unseen else None,
        counts=count_trials(study),
        front=front,
        doubts=doubts,
        scales=scales,
    )


def _candidates(bench: SwarmBench, study: optuna.Study) -> list[Mixture]:
    """List the mixtures to train next: evaluated ones, and runs of any scale within the space."""
    evaluated = [bench.space.mixture_of(trial) for trial in completed_trials(study)]
    runs = [Mixture.from_array(bench.space.names, row) for row in bench.swarm.places]
    return [*evaluated, *(one for one in runs if bench.space.contains(one))]


def _implausible(
    goal: GoalPredictor, metrics: Mapping[str, GoalPredictor], standings: Mapping[str, SwarmStanding]
) -> Iterator[str]:
    """Name the implausible predictions of the answer."""
    yield from implausible({f"{name}, value": one.value.predicted for name, one in standings.items()}, goal.known())
    for metric, predictor in metrics.items():
        predicted = {f"{name}, {metric}": one.metrics[metric].predicted for name, one in standings.items()}
        yield from implausible(predicted, predictor.known())


def _implausible_front(bench: SwarmBench, front: Sequence[FrontPoint]) -> Iterator[str]:
    """Name the implausible ends of the front, objective by objective."""
    for name, target in bench.target.targets.items() if front else ():
        measured = GoalPredictor(bench.swarm, Goal({name: target}), coverage=COVERAGE).known()
        values = [point.by_objective[name] for point in front]
        ends = {"least": min(values), "greatest": max(values)}
        yield from implausible({f"front, {end} {name}": Interval(*[one] * 3) for end, one in ends.items()}, measured)


def _forecast(predictor: GoalPredictor, table: SwarmTable, mixture: Mixture) -> SwarmForecast:
    """Predict a mixture, or the first run trained on it from the other runs."""
    runs = np.flatnonzero(np.abs(table.weights - mixture.array).max(axis=1) < SUM_TOLERANCE)
    if not len(runs):
        return SwarmForecast(predictor.predict(mixture.array[None])[0])
    return SwarmForecast(predictor.out_of_fold()[runs[0]], float(predictor.measured(table)[runs[0]]))


def show_swarm_best(console: Console, best: SwarmBest) -> None:
    for doubt in best.doubts:
        console.print(doubt)
    trained = ": no model was trained on it" if best.best.value.measured is None else ""
    console.print(f"Best mixture of study {best.study}, as predicted{trained}")
    show_weights(console, best.best.mixture)
    console.print(
        f"In the swarm's unit, with {COVERAGE:.0%} intervals; a run is predicted from the other runs{_said(best.goal)}"
    )
    _show_standings(console, best)
    if not all(standing.feasible for standing in best.baselines.values()):
        console.print("* outside the study's space.")
    console.print(_verdict(best))
    console.print(
        f"Distance of the best mixture from the nearest run: {best.distance:.3f} (total variation; of a run from its "
        f"nearest, half of the time no more than {best.usual_distance:.3f})."
    )
    console.print(f"Predicted out of fold: {_accuracy(best.out_of_fold)}.")
    if best.unseen:
        console.print(f"Predicted without having seen them: {_accuracy(best.unseen)}.")
    if best.scales:
        show_scales(console, best.scales)
    meaning = f"no evaluated mixture is predicted better in every objective ({which_is_better(best.goal)})"
    show_front(console, best.front, meaning, best.goal)
    show_counts(console, best.counts)


def _show_standings(console: Console, best: SwarmBest) -> None:
    contenders = {"uniform": best.baselines["uniform"], f"run {best.best_run}": best.baselines["best_run"]}
    uniform, run = (name if standing.feasible else f"{name} *" for name, standing in contenders.items())
    table = plain_table("", "best mixture", uniform, run, f"{run}, measured")
    negated = negated_in(best.goal)
    for name in ("value", *best.best.metrics):
        shown = [one.value if name == "value" else one.metrics[name] for one in (best.best, *contenders.values())]
        row = f"mean, {negated} negated" if name == "value" and negated else name
        table.add_row(row, *(_interval(one.predicted) for one in shown), f"{shown[-1].measured:.4f}")
    console.print(table)


def _said(goal: Goal) -> str:
    """Say which is better, unless less is of every value, as of losses."""
    return f"; {which_is_better(goal)}" if goal.maximised else ""


def _interval(interval: Interval) -> str:
    return f"{interval.value:.4f} ± {(interval.high - interval.low) / 2:.4f}"


def _verdict(best: SwarmBest) -> str:
    run, mine = best.baselines["best_run"].value, best.best.value.predicted
    assert run.measured is not None, "a run was trained"
    sign = best.goal.shown(1.0)
    ahead = sign * (run.measured - mine.value)
    beside = f"the best run as measured ({best.best_run}: {run.measured:.4f})"
    if ahead <= 0:
        return f"The best mixture is NOT predicted ahead of {beside}."
    worst = mine.high if sign > 0 else mine.low
    sure = "its whole interval is" if sign * (run.measured - worst) > 0 else "but its interval is not"
    return f"The best mixture is predicted {ahead:.4f} ahead of {beside}; {sure} ahead of that."


def _accuracy(found: Accuracy) -> str:
    spearman = "not defined" if found.spearman is None else f"{found.spearman:.3f}"
    return (
        f"{found.runs} runs with Spearman {spearman}, RMSE {found.rmse:.4f}, {found.inside:.0%} inside their interval"
    )
