"""Promises of `bench stopping` on a tiny pool: what was stopped is read in full, and shares have exact intervals."""

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from scipy.stats import beta
from tiny import edit

from pool.mixture import Mixture
from search.trials import STOPPED_EARLY, TOKENS_READ, completed_trials, count_trials
from studies.benchmarks.evaluation.stopping import Rate, judge_stops
from studies.opened.on_pool import workbench
from studies.running.evidence import imported_trial
from studies.study_file.study_file import read_study_file

EARLY = "[early_stopping]\nerror_rate = 0.4\n\n[gate]\nenabled = false"


@pytest.fixture
def stopping_root(root: Path, mixscout) -> Path:
    edit(root / "study.toml", 'strategy = "gradient"', 'strategy = "random"')
    edit(root / "study.toml", "[gate]", EARLY)
    assert mixscout("search", root / "study.toml", "--merges", 16).code == 0
    return root


def test_a_share_has_the_exact_interval_of_a_binomial() -> None:
    share = Rate.of(1, 20)
    assert share.low == pytest.approx(beta.ppf(0.025, 1, 20))
    assert share.high == pytest.approx(beta.ppf(0.975, 2, 19))
    assert (Rate.of(0, 20).low, Rate.of(20, 20).high) == (0, 1)
    assert (Rate.of(0, 0).low, Rate.of(0, 0).high) == (0, 1), "nothing is known"


def test_stopped_evaluations_are_read_in_full_and_kept(stopping_root: Path, mixscout) -> None:
    command = ("bench", "stopping", stopping_root / "study.toml", "--strategies", "random", "--seeds", 2)
    found = json.loads(mixscout(*command, "--search-merges", 12, "--json").out)
    for one in (found["own"], *found["searches"]):
        wrong = one["stopped_wrong"]
        assert 0 <= wrong["found"] <= wrong["among"] <= one["merges"]
        assert wrong["low"] <= wrong["found"] / max(1, wrong["among"]) <= wrong["high"]
        assert all(0 < one["read"][name] <= one["in_full"][name] for name in ("licences", "prose"))
        assert one["best_known"] <= one["best"]
        assert one["same_best"] in (None, one["best"] == one["best_known"])
    assert found["own"]["stopped_wrong"]["among"] > 0
    assert sum(found["own"]["read"].values()) < sum(found["own"]["in_full"].values())
    with workbench(read_study_file(stopping_root / "study.toml"), must_exist=True) as bench:
        study = bench.known_study()
        mixtures = [bench.space.mixture_of(trial) for trial in study.trials]
        assert all(bench.losses["search"].recall(mixture) for mixture in mixtures), "stopped ones are kept in full now"
    bill = json.loads(mixscout("cost", stopping_root / "study.toml", "--json").out)
    full = sum(found["own"]["in_full"].values()) // found["own"]["merges"]
    assert bill["parts"]["search"]["scored_tokens"] == sum(found["own"]["read"].values())
    assert bill["parts"]["other scores"]["scored_tokens"] >= full * found["own"]["stopped_wrong"]["among"]
    people = mixscout(*command, "--search-merges", 12).out
    assert "this study" in people and "stops that a full evaluation reverses" in people


def test_a_stop_that_loses_a_winner_is_counted(root: Path) -> None:
    with workbench(read_study_file(root / "study.toml")) as bench:
        loss, study = bench.losses["search"], optuna.create_study()
        names = bench.space.names
        found = sorted((loss(Mixture.vertex(names, name)) for name in names), key=lambda one: -one.value)
        for number, one in enumerate(found):  # each better than all before; the last is stopped, wrongly
            study.add_trial(imported_trial(one, {}, study, bench.space))
            if number == len(found) - 2:
                break
        stopped = replace(found[-1], value=found[0].value, values=(found[0].value,))
        trial = imported_trial(stopped, {}, study, bench.space)
        trial.set_user_attr(STOPPED_EARLY, True)
        study.add_trial(trial)
        judged = judge_stops(bench, study, loss, called=("random", 0))
    assert (judged.stopped_wrong.found, judged.stopped_wrong.among) == (1, 1)
    assert (judged.winners_stopped.found, judged.winners_stopped.among) == (1, len(found) - 1)
    assert (judged.best, judged.best_known) == (found[-2].value, found[-1].value)


def test_search_report_and_trials_count_the_same_tokens(stopping_root: Path, mixscout) -> None:
    people = mixscout("search", stopping_root / "study.toml", "--merges", 16).out
    report = json.loads(mixscout("report", stopping_root / "study.toml", "--json").out)
    rows = {row["domain"]: row for row in report["sections"]["gate"]["tables"]["stopped"]}
    with workbench(read_study_file(stopping_root / "study.toml"), must_exist=True) as bench:
        sizes, counts = bench.table("search").tokens_but_for(), count_trials(bench.known_study())
        read = [trial.user_attrs[TOKENS_READ] for trial in completed_trials(bench.known_study())]
    assert {name: row["in full"] for name, row in rows.items()} == {name: 16 * one for name, one in sizes.items()}
    assert sum(row["read"] for row in rows.values()) == counts.tokens_read == sum(read)
    assert counts.tokens_read + counts.tokens_unread == 16 * sum(sizes.values())
    assert f"{counts.tokens_read:,} held-out tokens read of {16 * sum(sizes.values()):,} in full" in people


def test_a_strategy_with_gradients_is_refused(root: Path, mixscout) -> None:
    answer = mixscout("bench", "stopping", root / "study.toml", "--strategies", "auto")
    assert answer.code == 1 and "'auto' asks for gradients, and stops nothing early" in answer.err
