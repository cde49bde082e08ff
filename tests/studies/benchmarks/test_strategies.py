"""`mixscout bench search` and `mixscout bench gate`: figures that add up, in any number of processes."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from search.gate import GateRule
from search.surrogates.automatic import SURROGATES
from studies.benchmarks.strategies.gate import GatePlan, run_pair
from studies.benchmarks.strategies.regret import Case, Entry, RegretCourse, cases, run_regret, shares_of

CASE = Case("scheffe", "face", 4, 0.0)


def test_one_percent_counts_from_where_the_regret_stays_below() -> None:
    course = RegretCourse((1, 2, 3, 4), (100.0, 0.5, 2.0, 0.9))
    assert course.forwards_to_one_percent == 4
    assert RegretCourse((1, 2), (100.0, 1.5)).forwards_to_one_percent == math.inf
    assert [course.at(spent) for spent in (0, 1, 2, 9)] == [100.0, 100.0, 0.5, 0.9]


def test_a_gradient_counts_three_forwards_and_processes_change_nothing() -> None:
    entries = [Entry("auto", 6), Entry("tpe", 12)]
    alone = run_regret([CASE], entries, 2, jobs=1)
    assert [one.as_json() for one in alone] == [one.as_json() for one in run_regret([CASE], entries, 2, jobs=2)]
    assert alone[0].courses[0].forwards == (3, 6, 9, 12, 15, 18)
    assert alone[1].courses[0].forwards == tuple(range(1, 13))
    assert alone[0].forwards_to_one_percent <= 18
    share = shares_of(alone, "auto", "tpe")[CASE.name]
    assert share == alone[0].forwards_to_one_percent / min(12, alone[1].forwards_to_one_percent)


def test_every_law_is_searched_with_its_optimum_everywhere_it_can_be() -> None:
    names = [case.name for case in cases([8, 32], [0.0, 0.001])]
    assert len(names) == len(set(names)) == 7 * 2 * 2
    assert "linear-vertex-8" in names and "exponential-inside-32-noise-0.001" in names


def test_the_command_prints_and_draws(mixscout, tmp_path: Path) -> None:
    picture = tmp_path / "regret.png"
    options = ("--partitions", "3", "--seeds", 1, "--entries", "auto:3,random:3,tpe:3")
    answer = mixscout("bench", "search", *options, "--picture", picture)
    assert answer.code == 0, answer.err
    assert "exponential-vertex-3" in answer.out and "auto needs at most" in answer.out
    assert Image.open(picture).size[0] > 400
    assert answer.out.splitlines()[-1].startswith("next: mixscout compare STUDY.toml  # strategies on your own study")
    wrong = mixscout("bench", "search", "--entries", "simplex:3")
    assert wrong.code == 1 and "'simplex:3' is not STRATEGY:MERGES" in wrong.err
    wrong = mixscout("bench", "search", "--partitions", "8,two")
    assert wrong.code == 1 and "--partitions: 'two' is no number of partitions" in wrong.err
    shown = json.loads(mixscout("bench", "search", *options, "--json").out)
    assert len(shown) == 7 * 3 and {one["seeds"] for one in shown} == {1}


def test_the_gate_is_judged_by_asking_about_every_pruned_proposal() -> None:
    pair = run_pair(CASE, Entry("random", 30), 0, GatePlan(1, GateRule(audit_rate=0.05)))
    assert pair.pruned > 30
    assert 0 <= pair.false_prunes < 0.1 * pair.pruned
    assert 0 < pair.covered <= pair.predicted <= 30
    assert pair.gated_percent < pair.ungated_percent
    assert pair.merges_to_ungated < 30
    everything = run_pair(CASE, Entry("random", 30), 0, GatePlan(1, GateRule(threshold=0.0)))
    assert (everything.pruned, everything.predicted) == (0, 0)
    assert everything.gated_percent == everything.ungated_percent


@pytest.mark.parametrize("as_json", [False, True])
def test_bench_gate_prints(mixscout, as_json: bool) -> None:
    options = ["--partitions", "3", "--seeds", 1, "--entries", "random:15", *(["--json"] if as_json else [])]
    answer = mixscout("bench", "gate", *options)
    assert answer.code == 0, answer.err
    if as_json:
        assert [one["strategy"] for one in json.loads(answer.out)] == ["random"] * 7
    else:
        assert "With the gate against without" in answer.out and "scheffe-vertex-3" in answer.out
        assert answer.out.splitlines()[-1].startswith("next: mixscout search STUDY.toml  # prunes as [gate]")


def test_the_landscape_of_a_pool_is_predicted_better_from_more(root: Path, mixscout) -> None:
    options = ("--values", "4,24", "--gradients", "3", "--unseen", 12)
    fits = json.loads(mixscout("bench", "landscape", root / "study.toml", *options, "--json").out)
    by = {(one["surrogate"], one["evaluations"], one["gradients"]): one for one in fits}
    assert len(by) == len(fits) == 2 * len(SURROGATES) + 1
    assert by["scheffe", 24, False]["rmse"] < by["scheffe", 4, False]["rmse"] < 2 * fits[0]["spread"]
    assert by["scheffe", 3, True]["spearman"] > 0.9
    people = mixscout("bench", "landscape", root / "study.toml", *options).out
    assert "values and gradients" in people
    assert people.splitlines()[-1].startswith(f"next: mixscout search {root}/study.toml  # with strategy =")


def test_bench_proposals_prints_every_strategy_asked_for(mixscout) -> None:
    options = ("--partitions", 4, "--trials", 12, "--repeats", 2, "--strategies", "auto,greedy,tpe")
    answer = mixscout("bench", "proposals", *options)
    assert answer.code == 0, answer.err
    assert all(name in answer.out for name in ("auto", "greedy", "tpe", "4 partitions, 12 trials"))
    assert answer.out.splitlines()[-1].startswith("next: mixscout compare STUDY.toml")
    costs = json.loads(mixscout("bench", "proposals", *options, "--json").out)
    assert [cost["strategy"] for cost in costs] == ["auto", "greedy", "tpe"]
    assert all(0 < cost["seconds"]["min"] <= cost["seconds"]["median"] <= cost["seconds"]["max"] for cost in costs)
    wrong = mixscout("bench", "proposals", "--strategies", "auto,simplex")
    assert wrong.code == 1 and "--strategies: 'simplex' is no strategy" in wrong.err
