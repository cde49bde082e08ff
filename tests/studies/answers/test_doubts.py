"""What speaks against an answer is said before the answer."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_table import small_table, write_small_study
from tiny import edit

from objectives.agreement.statistics import Interval
from objectives.stand_ins.swarm_table import SwarmTable, write_swarm
from pool.mixture import Mixture
from studies.answers.doubts import doubts_of_mixture, doubts_of_search, far_merges, implausible, no_better_than_chance
from studies.answers.goal_predictor import Accuracy
from studies.answers.swarm_best import SwarmBest, find_swarm_best, show_swarm_best
from studies.opened.on_table import swarm_bench
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.report import make_report
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file
from studies.terminal import digits, json_text


@pytest.mark.parametrize(
    ("runs", "spearman", "useless"),
    [(16, 0.009, True), (16, 0.5, False), (8, 0.5, True), (512, 0.1, True), (512, 0.25, False), (64, -0.9, True)],
)
def test_a_rank_correlation_within_chance_is_called_useless(runs: int, spearman: float, useless: bool) -> None:
    said = no_better_than_chance(Accuracy(runs, spearman, rmse=0.1, inside=0.9))
    assert (said is not None) == useless
    assert said is None or said.startswith("Useless: predictions rank the runs no better than chance")


def test_an_undefined_rank_correlation_is_said_in_words() -> None:
    said = no_better_than_chance(Accuracy(16, None, rmse=0.0, inside=1.0))
    assert said and "Spearman out of fold not defined over 16 runs" in said


@pytest.mark.parametrize(
    ("predicted", "measured", "plausible"),
    [
        (2.5, (3.0, 3.6), True),
        (2.3, (3.0, 3.6), False),
        (4.5, (3.0, 3.6), False),
        (-0.1, (1.0, 9.0), False),
        (0.0, (1.0, 9.0), False),
        (0.1, (-9.0, -1.0), False),
        (-0.1, (-0.5, 0.5), True),
    ],
)
def test_a_prediction_far_outside_the_measured_values_is_named(
    predicted: float, measured: tuple[float, float], plausible: bool
) -> None:
    said = list(implausible({"uniform": Interval(predicted, predicted - 1, predicted + 1)}, np.array(measured)))
    assert (said == []) == plausible
    assert all(f"uniform: {predicted:.4f} is not plausible" in one for one in said)


def test_weights_that_no_run_has_are_named_with_the_distance() -> None:
    table = small_table()
    inside = Mixture.from_array(table.names, table.weights[3])
    assert doubts_of_mixture(inside, table.weights) == []
    weights, distance = doubts_of_mixture(Mixture.vertex(table.names, "prose"), table.weights)
    assert "prose 1.0000 (at most 0.7468 in a run)" in weights and "code" not in weights
    assert "The best mixture is 0.2" in distance and "from the nearest run" in distance


def test_merges_far_outside_are_said_with_the_largest_weight_of_the_worst() -> None:
    table = small_table()
    mixtures = [Mixture.from_array(table.names, row) for row in table.weights]
    values = table.metrics["tales"].tolist()
    assert far_merges(mixtures, values) == [] and far_merges(mixtures[:3], values[:3]) == []
    values[2], values[6] = 11.0, 1e6
    (said,) = far_merges(mixtures, values)
    assert said.startswith("2 of 16 merges lie far outside, at most 1000000.0000 (") and "3.0" in said
    assert "`mixscout pool check` on the pool file measures the members" in said


def _odd_table() -> SwarmTable:
    """Sixteen runs, of which one diverged, and none used books; `noise` does not depend on the mixture."""
    table = small_table()
    weights = np.hstack([table.weights, np.zeros((16, 1))])
    tales = table.metrics["tales"].copy()
    tales[5] = 1e6
    metrics = {"tales": tales, "noise": np.random.default_rng(1).normal(3, 0.1, 16), "same": np.full(16, 3.2)}
    return SwarmTable(table.runs, (*table.names, "books"), weights, metrics)


def _odd_study(folder: Path, target: str, more: str = "") -> Path:
    study = write_small_study(folder)
    write_swarm(_odd_table(), folder / "odd")
    edit(study, 'table = "swarm"', f'table = "odd"\n{more}')
    edit(study, "tales = 1.0", target)
    edit(study, '"auto"', '"random"')
    return study


def _answer(study: Path) -> tuple[SwarmBest, str, Facts]:
    with swarm_bench(read_study_file(study)) as bench:
        run_search(bench, 3)
        best = find_swarm_best(bench, bench.known_study())
        assert set(doubts_of_search(bench)) <= set(best.doubts)
        console = Console(record=True, width=400, file=StringIO())
        show_swarm_best(console, best)
        return best, console.export_text(), Facts.of(bench, study)


def test_an_answer_from_an_odd_table_is_sane_and_says_what_is_odd(tmp_path: Path) -> None:
    best, shown, facts = _answer(_odd_study(tmp_path, "tales = 0.9\nsame = 0.1"))
    assert best.best.mixture.as_dict()["books"] == 0 and 2.9 < best.best.value.predicted.value < 4
    left_out, constant, *_ = best.doubts
    assert left_out.startswith("Left out of the table as far outside: run r5: tales 1e+06")
    assert constant == "The metric 'same' is constant, 3.2 in all runs: nothing is learnt from it."
    assert shown.index("run r5") < shown.index("Best mixture of study")
    assert json.loads(json_text(best))["doubts"] == list(best.doubts)
    report = make_report(facts)
    assert left_out in report.summary


def test_predictions_without_worth_are_called_useless_before_a_mixture_is_named(tmp_path: Path) -> None:
    best, shown, _ = _answer(_odd_study(tmp_path, "noise = 1.0"))
    assert "Useless: predictions rank the runs no better than chance" in best.doubts[0]
    assert shown.index("Useless") < shown.index("Best mixture of study")


def test_runs_kept_and_weights_beyond_them_are_doubted(tmp_path: Path) -> None:
    study = _odd_study(tmp_path, "tales = 1.0", "keep_diverged = true")
    edit(study, "[search]", "[space]\nextrapolate = true\nfixed = {books = 0.4}\n[search]")
    best, _, _ = _answer(study)
    assert best.best.mixture.as_dict()["books"] == 0.4
    assert any("books 0.4000 (at most 0.0000 in a run)" in doubt for doubt in best.doubts)


@pytest.mark.parametrize(("value", "shown"), [(0.123, "0.12"), (float("nan"), "-"), (float("inf"), "-"), (None, "-")])
def test_a_number_that_is_not_finite_is_shown_as_a_dash(value: float | None, shown: str) -> None:
    assert digits(value, ".2f") == shown
