"""`mixscout bench surrogate`: surrogates on a table of trained models, each scored on runs that it has not seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from objectives.stand_ins.swarm_table import SwarmTable, read_swarm, read_swarms
from search.surrogates.automatic import SURROGATES
from studies.benchmarks import surrogates as benchmark
from studies.benchmarks.surrogates import REFERENCE, methods, run_surrogates, split

REGMIX = Path(__file__).parents[2] / "support" / "swarm" / "regmix"
COMMAND = ("bench", "surrogate", "--table", REGMIX, "--metric", "the_pile_pile_cc")


def _single_swarm(folder: Path) -> Path:
    table = read_swarm(REGMIX)
    lines = [",".join(["run", *table.names])]
    lines += [",".join([run, *map(repr, row)]) for run, row in zip(table.runs, table.weights.tolist(), strict=True)]
    (folder / "ratios.csv").write_text("\n".join(lines))
    losses = zip(table.runs, table.metrics["the_pile_pile_cc"].tolist(), strict=True)
    (folder / "metrics.csv").write_text("run,prose\n" + "".join(f"{run},{loss!r}\n" for run, loss in losses))
    return folder


def test_every_surrogate_and_the_reference_are_scored_on_equal_subsets(mixscout) -> None:
    results = json.loads(mixscout(*COMMAND, "--sizes", "16,64", "--subsets", 2, "--json").out)
    by_size = [[one for one in results if one["runs"] == size] for size in (16, 64)]
    for mine, subsets in zip(by_size, (2, 1), strict=True):
        assert [one["surrogate"] for one in mine] == [*SURROGATES, REFERENCE]
        assert {one["subsets"] for one in mine} == {subsets}
        assert {one["unseen"] for one in mine} == {32}
        assert all(one["rmse"]["min"] <= one["rmse"]["mean"] <= one["rmse"]["max"] for one in mine)
    whole = {one["surrogate"]: one for one in by_size[1]}
    assert all(one["spearman"]["mean"] > 0.8 for one in whole.values())
    assert whole["gaussian_process"]["spearman"]["mean"] > 0.95
    few = {one["surrogate"]: one for one in by_size[0]}
    assert few[REFERENCE]["spearman"]["mean"] is None, "trees with 20 runs to a leaf cannot split 16"


def test_the_answer_for_people_says_what_is_not_defined(mixscout) -> None:
    shown = mixscout(*COMMAND, "--sizes", "16", "--subsets", 1).out
    assert "the_pile_pile_cc: predictions of 32 unseen models" in shown
    assert "not defined" in shown and all(name in shown for name in methods())


def test_a_swarm_without_test_runs_is_split_always_alike(tmp_path: Path) -> None:
    table = read_swarm(_single_swarm(tmp_path))
    train, unseen = split(table)
    assert (len(train.runs), len(unseen.runs)) == (43, 21)
    assert {*train.runs} | {*unseen.runs} == {*table.runs}
    assert split(table)[1].runs == unseen.runs
    assert {one.unseen for one in run_surrogates(tmp_path, [], [16], 1)} == {21}


def test_the_same_question_has_the_same_answer() -> None:
    first, second = (run_surrogates(REGMIX, ["the_pile_pile_cc"], [16], 1) for _ in range(2))
    assert repr(first) == repr(second)


def test_what_cannot_be_asked_is_refused_in_one_line(mixscout) -> None:
    for arguments, message in {
        ("--sizes", "32,many"): "--sizes: 'many' is no number of runs, which is 3 or more",
        ("--sizes", "2"): "--sizes: '2' is no number of runs",
        ("--sizes", "65"): "has 64 runs to train on, fewer than 65",
        ("--sizes", "16", "--metric", "novels"): "--metric: 'novels' is no metric of",
        ("--sizes", "16", "--table", "gone"): "gone: no such folder",
    }.items():
        answer = mixscout(*COMMAND, *arguments)
        assert answer.code == 1 and len(answer.err.splitlines()) == 1
        assert message in answer.err


def test_the_reference_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert list(methods()) == [*SURROGATES]


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_the_reference_is_what_regmix_runs() -> None:
    from lightgbm import LGBMRegressor, early_stopping

    train, unseen = read_swarms(REGMIX)
    assert isinstance(unseen, SwarmTable)
    values, truth = train.metrics["the_pile_github"], unseen.metrics["the_pile_github"]
    published = LGBMRegressor(
        boosting_type="gbdt",
        objective="regression",
        metric=["l1", "l2"],
        n_estimators=1000,
        seed=42,
        learning_rate=1e-2,
        verbosity=-1,
        num_threads=1,
    )
    stopping = early_stopping(stopping_rounds=3, verbose=False)
    test = [(unseen.weights, truth)]
    published.fit(train.weights, values, eval_set=test, eval_metric="l2", callbacks=[stopping])
    ours = benchmark.regmix_regression(train.weights, values, unseen.weights, truth).mean
    assert np.allclose(ours, published.predict(unseen.weights), atol=1e-12)
