"""The answer of `best` on a table for people, with what cannot be told from it."""

from rich.console import Console
from rich.table import Table

from objectives.agreement.bootstrap import Interval
from studies.answers.goal_predictor import Accuracy
from studies.answers.swarm_best import SwarmBest, SwarmForecast, SwarmStanding
from studies.answers.tables import show_counts, show_weights
from studies.opened.on_table import COVERAGE


def show_swarm_best(console: Console, best: SwarmBest) -> None:
    """Show the best mixture, then it and the baselines as predicted and measured, and how far to believe that."""
    trained = ": no model was trained on it" if best.best.value.measured is None else ""
    console.print(f"Best mixture of study {best.study}, as predicted{trained}")
    show_weights(console, best.best.mixture)
    console.print(f"In the table's unit, with {COVERAGE:.0%} intervals; what is a run is predicted from the others")
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
    _show_front(console, best)
    show_counts(console, best.counts)


def _show_standings(console: Console, best: SwarmBest) -> None:
    run = best.baselines["best_run"]
    table = Table()
    table.add_column("")
    uniform, trained = _marked("uniform", best.baselines["uniform"]), _marked(f"run {best.best_run}", run)
    for heading in ("best mixture", uniform, trained, f"{trained}, measured"):
        table.add_column(heading, justify="right")
    for name in ("value", *best.best.metrics):
        shown = [_of(standing, name) for standing in (best.best, best.baselines["uniform"], run)]
        measured = shown[-1].measured
        table.add_row(name, *(_interval(one.predicted) for one in shown), f"{measured:.4f}")
    console.print(table)


def _of(standing: SwarmStanding, name: str) -> SwarmForecast:
    return standing.value if name == "value" else standing.metrics[name]


def _marked(name: str, standing: SwarmStanding) -> str:
    return name if standing.feasible else f"{name} *"


def _interval(interval: Interval) -> str:
    return f"{interval.value:.4f} ± {(interval.high - interval.low) / 2:.4f}"


def _verdict(best: SwarmBest) -> str:
    run, mine = best.baselines["best_run"].value, best.best.value.predicted
    assert run.measured is not None, "a run was trained"
    ahead = run.measured - mine.value
    beside = f"the best run as measured ({best.best_run}: {run.measured:.4f})"
    if ahead <= 0:
        return f"The best mixture is NOT predicted ahead of {beside}."
    sure = "its whole interval is" if mine.high < run.measured else "but its interval is not"
    return f"The best mixture is predicted {ahead:.4f} ahead of {beside}; {sure} ahead of that."


def _accuracy(found: Accuracy) -> str:
    return (
        f"{found.runs} runs with Spearman {found.spearman:.3f}, RMSE {found.rmse:.4f}, "
        f"{found.inside:.0%} inside their interval"
    )


def _show_front(console: Console, best: SwarmBest) -> None:
    if not best.front:
        return
    console.print("Pareto front: no evaluated mixture is predicted better in every objective")
    table = Table()
    for name in best.front[0].predicted:
        table.add_column(name, justify="right")
    table.add_column("mixture")
    for point in best.front:
        used = sorted(point.mixture.as_dict().items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {weight:.2f}" for name, weight in used if weight >= 0.005)
        table.add_row(*(f"{value:.4f}" for value in point.predicted.values()), shown)
    console.print(table)
    console.print("The best mixture above is the one with the lowest mean of the objectives.")
