"""Runs far outside are found; heavy-tailed but honest metrics lose none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from objectives.held_out import Floats
from objectives.stand_ins.diverged import diverged_runs, far_rows
from objectives.stand_ins.swarm_table import SwarmTable, read_swarms

REGMIX = Path(__file__).parents[2] / "support" / "swarm" / "regmix"


def _losses(runs: int, *, seed: int = 0, partitions: int = 3) -> tuple[Floats, Floats]:
    """Losses from 3.0 to 3.6, a quadratic of the mixture."""
    weights = np.random.default_rng(seed).dirichlet(np.ones(partitions), size=runs)
    raw = ((weights - 0.3) ** 2).sum(axis=1)
    return weights, 3 + 0.6 * (raw - raw.min()) / np.ptp(raw)


@pytest.mark.parametrize("runs", [9, 16, 64])
@pytest.mark.parametrize(
    "bad", [[7.5], [10.8], [50.0], [1e6], [1e300], [0.0], [-1.0], [1e-6], [10.8, 11.2], [1e4, 1e6]], ids=str
)
def test_runs_far_outside_are_found(runs: int, bad: list[float]) -> None:
    weights, values = _losses(runs)
    at = [1, 4][: len(bad)]
    values[at] = bad
    assert far_rows(weights, values).tolist() == at


def test_far_runs_on_both_sides_are_found_together() -> None:
    weights, values = _losses(24)
    values[[2, 9, 17]] = 0.0, 1e6, 11.0
    assert far_rows(weights, values).tolist() == [2, 9, 17]


def test_a_quarter_of_the_runs_may_be_far_outside_and_no_more() -> None:
    weights, values = _losses(16)
    values[:4] = 1e4, 1e5, 1e6, 1e7
    assert far_rows(weights, values).tolist() == [0, 1, 2, 3]
    values[4] = 1e6
    assert far_rows(weights, values).tolist() == []


LAWS: dict[str, Callable[[Floats], Floats]] = {
    "perplexities from 10 to 10,000": lambda weights: 10 * np.exp(6.9 * weights[:, 0]),
    "a loss that falls steeply from zero weight": lambda weights: 1.5 + (weights[:, 0] + 0.01) ** -0.4,
    "a mixing law": lambda weights: 2 + np.exp(weights @ np.array([1.0, -1.0, -2.0])),
    "an accuracy": lambda weights: 1 / (1 + np.exp(4 - 8 * weights[:, 0])),
    "nearly constant": lambda weights: 3.2 + 1e-6 * weights[:, 0],
    "of either sign": lambda weights: weights[:, 0] - weights[:, 1],
    "mostly zero": lambda weights: np.maximum(weights[:, 0] - 0.8, 0),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("runs", [8, 12, 24, 200])
def test_no_run_is_lost_of_a_table_that_is_wide_and_smooth(law: str, runs: int) -> None:
    for seed in range(20):
        weights = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), size=runs)
        weights[:3] = np.eye(3)
        assert far_rows(weights, LAWS[law](weights)).tolist() == [], seed


def test_no_run_of_a_public_table_is_lost() -> None:
    for table in read_swarms(REGMIX):
        assert table is not None
        assert diverged_runs(table, table.metrics) == ()
        perplexities = {name: np.exp(values) for name, values in table.metrics.items()}
        assert diverged_runs(SwarmTable(table.runs, table.names, table.weights, perplexities), perplexities) == ()


def test_the_one_run_without_a_partition_is_kept_up_to_ten_times_off() -> None:
    weights, values = _losses(16)
    weights[5] = 0.0, 0.4, 0.6
    values[5] = 20.0
    assert far_rows(weights, values).tolist() == []
    values[5] = 50.0
    assert far_rows(weights, values).tolist() == [5]


def test_the_worse_side_is_the_lower_where_higher_is_better() -> None:
    weights, values = _losses(16)
    values[5] = 1.2
    assert far_rows(weights, values).tolist() == []
    assert far_rows(weights, values, higher_is_better=True).tolist() == [5]


def test_a_run_is_named_with_its_value_and_the_others() -> None:
    weights, values = _losses(16)
    values[3] = 1e6
    table = SwarmTable(tuple(f"r{row}" for row in range(16)), ("a", "b", "c"), weights, {"x": values, "y": values})
    (one,) = diverged_runs(table, ["y", "x"])
    assert str(one) == "run r3: y 1e+06 (the others 3 to 3.6)"
