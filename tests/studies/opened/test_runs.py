"""A study on a table learns from the runs that can teach it something."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_table import small_table, write_small_study
from tiny import edit

from objectives.stand_ins.swarm_table import SwarmTable, read_swarm
from objectives.target import Goal
from pool.errors import ConfigError
from studies.opened.on_table import swarm_bench
from studies.opened.runs import LearntRuns, learnt_runs
from studies.running.plan import planned_search, say_gate
from studies.study_file.study_file import read_study_file


def _table(runs: int = 16, **values: float) -> SwarmTable:
    """The small table, with another value of `tales` in some runs."""
    table = small_table(runs)
    tales = table.metrics["tales"].copy()
    for run, value in values.items():
        tales[table.runs.index(run)] = value
    return replace(table, metrics={**table.metrics, "tales": tales})


def _learnt(folder: Path, table: SwarmTable, keep: str = "", unseen: SwarmTable | None = None) -> LearntRuns:
    study = write_small_study(folder)
    edit(study, 'table = "swarm"', f'table = "swarm"\n{keep}')
    return learnt_runs(read_study_file(study), table, unseen, Goal.of({"tales": 1.0}))


def test_a_table_without_a_run_far_outside_stays_as_it_is(tmp_path: Path) -> None:
    table = small_table()
    learnt = _learnt(tmp_path, table)
    assert learnt.table is table and learnt.diverged == ()
    with swarm_bench(read_study_file(tmp_path / "study.toml")) as bench:
        assert bench.identity["table"] == read_swarm(tmp_path / "swarm").digest


def test_a_diverged_run_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learnt = _learnt(tmp_path, _table(r5=1e6), unseen=_table(r2=0.0))
    assert "r5" not in learnt.table.runs and len(learnt.table.runs) == 15
    assert [one.run for one in learnt.diverged] == ["r5"]
    assert learnt.unseen is not None and len(learnt.unseen.runs) == 15
    edit(tmp_path / "swarm" / "metrics.csv", "r5,4", "r5,1000004")
    with swarm_bench(read_study_file(tmp_path / "study.toml")) as bench:
        assert bench.identity["table"] != small_table().digest and len(bench.swarm.table.runs) == 15
    assert "run r5: tales 1e+06 (the others 3" in capsys.readouterr().err


def test_a_run_far_outside_in_a_metric_of_no_target_stays(tmp_path: Path) -> None:
    table = small_table()
    manuals = table.metrics["manuals"].copy()
    manuals[4] = 1e6
    assert _learnt(tmp_path, replace(table, metrics={**table.metrics, "manuals": manuals})).diverged == ()


@pytest.mark.parametrize(
    ("keep", "left_out"), [("true", []), ('["r5"]', ["r6"]), ('["r5", "r6"]', []), ("false", ["r5", "r6"])]
)
def test_runs_are_kept_when_asked_for(keep: str, left_out: list[str], tmp_path: Path) -> None:
    learnt = _learnt(tmp_path, _table(r5=1e6, r6=2e6), f"keep_diverged = {keep}")
    assert [one.run for one in learnt.diverged] == left_out
    assert len(learnt.table.runs) == 16 - len(left_out)


def test_runs_without_letters_may_be_kept(tmp_path: Path) -> None:
    table = _table(r5=1e6)
    numbered = replace(table, runs=tuple(map(str, range(16))))
    assert _learnt(tmp_path, numbered, "keep_diverged = [5]").diverged == ()


REFUSED = {
    "a run that is not there": (_table(), 'keep_diverged = ["r99"]', "has no run 'r99'; its first is 'r0'"),
    "too few without them": (
        _table(9, r5=1e6, r6=2e6),
        "",
        "7 runs without those far outside (run r5: tales 1e+06 (the others 3",
    ),
    "a constant metric": (
        replace(small_table(), metrics={"tales": np.full(16, 3.2)}),
        "",
        "the metric 'tales' is constant, 3.2 in all 16 runs, so nothing can be learnt",
    ),
    "one mixture": (
        replace(small_table(), weights=np.full((16, 3), 1 / 3)),
        "",
        "all 16 runs have the same mixture, so nothing can be learnt",
    ),
    "what is no list": (_table(), 'keep_diverged = "r5"', "'keep_diverged': expected true, or a list of the ids of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_learnt_from_is_refused(case: str, tmp_path: Path) -> None:
    table, keep, message = REFUSED[case]
    with pytest.raises(ConfigError) as refused:
        _learnt(tmp_path, table, keep)
    assert message in str(refused.value)


@pytest.mark.parametrize("key", ["keep_diverged = true\n", "[space]\nextrapolate = true\n"])
def test_keys_about_runs_are_refused_on_a_pool(key: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f'name = "s"\npool = "p.toml"\n{key}[target]\nx = 1.0\n')
    with pytest.raises(ConfigError, match="does nothing: it is about the runs of a table"):
        read_study_file(tmp_path / "study.toml")


@pytest.mark.parametrize(
    ("gate", "gated", "said"),
    [
        ("", False, "the gate is off"),
        ("[gate]\nmin_evidence = 6\n", True, ""),
        ("[gate]\nenabled = false\n", False, ""),
    ],
)
def test_no_gate_judges_predictions_unless_asked_to(
    gate: str, gated: bool, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_small_study(tmp_path)
    edit(study, "[gate]\nenabled = false\n", gate)
    config = read_study_file(study)
    say_gate(config)
    err = capsys.readouterr().err
    with swarm_bench(config) as bench:
        assert (planned_search(bench).gate is not None) == gated
    assert said in err and bool(said) == bool(err)
