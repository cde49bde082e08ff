"""A study on a table with several scales, by the commands a user types: what the scales tell, and the next run."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_table import small_table, write_scaled_study, write_small_study
from tiny import edit

from objectives.stand_ins.swarm_table import write_swarm
from studies.opened.on_table import swarm_bench
from studies.study_file.study_file import read_study_file


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scaled_study(tmp_path_factory.mktemp("scaled"))


def test_a_study_of_a_scale_says_what_the_scales_tell_and_what_to_train_next(study: Path, mixscout) -> None:
    searched = mixscout("search", study)
    assert searched.code == 0 and "Useless" not in searched.out
    shown = mixscout("best", study).out
    for said in ("What the scales tell of 410M: its 4 runs", "70M and 410M", "Next run at 410M: "):
        assert said in shown
    found = json.loads(mixscout("best", study, "--json").out)
    scales = found["scales"]
    assert (scales["target"], scales["source"], scales["scales"]["70M"]["runs"]) == ("410M", "70M", 16)
    assert scales["scales"]["70M"]["out_of_fold"]["runs"] == found["out_of_fold"]["runs"] == 4
    (both,) = scales["agreements"]
    assert both["shared"] == 4 and (both["spearman"]["low"], both["spearman"]["high"]) == (-1, 1)
    after, run = scales["next_run"], found["baselines"]["best_run"]["measured"]
    assert after["expected"] > 0 and 0 < after["chance"] <= 1
    assert after["expected"] >= run - after["predicted"]["value"] - 1e-9
    trained = [*small_table(4).weights]
    assert min(np.abs(np.array(list(after["mixture"].values())) - one).max() for one in trained) > 1e-6


def test_the_report_of_a_scale_has_the_scales(study: Path, mixscout) -> None:
    assert mixscout("search", study).code == 0
    assert mixscout("report", study).code == 0
    page = (study.parent / "reports" / "small" / "report.html").read_text()
    assert "Next run at 410M" in page and "70M and 410M" in page


def test_the_identity_names_the_scales_only_where_there_are_some(study: Path, tmp_path: Path) -> None:
    with swarm_bench(read_study_file(study), must_exist=False) as bench:
        assert set(bench.identity["scales"]) == {"target", "70M"}
        assert bench.space.caps == pytest.approx(1.1 * small_table().weights.max(axis=0))  # of all scales
    with swarm_bench(read_study_file(write_small_study(tmp_path))) as bench:
        assert "scales" not in bench.identity


def test_too_few_runs_are_refused_by_scale(tmp_path: Path, mixscout) -> None:
    refused = mixscout("search", write_scaled_study(tmp_path, runs=1))
    assert refused.code == 1 and "1 runs at scale 410M are too few to predict from; give 2" in refused.err
    other = tmp_path / "other"
    write_swarm(small_table(7), other / "swarm" / "70M")
    write_swarm(small_table(3), other / "swarm" / "410M")
    edit(tmp_path / "study.toml", "swarm", "other/swarm")
    refused = mixscout("search", tmp_path / "study.toml")
    assert refused.code == 1 and "no other scale than 410M has the 8 runs to learn from: 70M has 7" in refused.err
    write_swarm(small_table(16), other / "swarm" / "160M")
    assert (
        "scale 70M: 7 runs are too few to learn from (8), so it is left out"
        in mixscout("search", tmp_path / "study.toml", "--merges", "1").err
    )


def test_scales_are_for_a_table(tmp_path: Path, mixscout) -> None:
    (tmp_path / "pool.toml").write_text("")
    (tmp_path / "study.toml").write_text(
        'name = "s"\npool = "pool.toml"\n[target]\na = 1.0\n[scales]\ntarget = "410M"\n'
    )
    refused = mixscout("search", tmp_path / "study.toml")
    assert refused.code == 1 and "[scales] does nothing" in refused.err
