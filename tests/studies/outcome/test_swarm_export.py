"""`mixscout table`: what a pool's study has evaluated answers another target without a new merge."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from tiny import edit, snapshot

from objectives.losses.merged_loss import MergedLoss
from objectives.stand_ins.swarm_table import read_swarm
from objectives.target import Goal
from pool.mixture import Mixture
from studies.opened.on_pool import workbench
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file

CHANGED = """
name = "changed"
table = "evidence"

[target]
prose = 1.0

[search]
strategy = "auto"
merges = 12

[gate]
enabled = false
"""


@pytest.fixture(scope="module")
def studied(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose study has ten evaluations. Shared: each test writes under names of its own."""
    folder = tmp_path_factory.mktemp("evaluated") / "root"
    shutil.copytree(built_root, folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        run_search(bench, 10)
    return folder


def _merged(root: Path) -> int:
    """Count the merges that the database remembers."""
    with sqlite3.connect(root / "mixscout.db") as database:
        (rows,) = database.execute("select count(*) from evaluations where kind = 'merged'").fetchone()
    return int(rows)


def test_every_remembered_evaluation_is_a_run_with_its_losses(studied: Path, mixscout) -> None:
    answer = mixscout("table", studied / "study.toml", studied / "evaluated", "--json")
    assert answer.code == 0, answer.err
    written = json.loads(answer.out)
    table = read_swarm(studied / "evaluated")
    assert written["runs"] == len(table.runs) == _merged(studied)
    assert tuple(written["partitions"]) == table.names == ("code", "docs", "prose")
    assert tuple(written["metrics"]) == tuple(table.metrics) == ("licences", "prose")
    with workbench(read_study_file(studied / "study.toml")) as bench:
        fresh = MergedLoss(bench.proxy.pool, bench.proxy.stacked, Goal.of({"licences": 0.6, "prose": 0.4}), "search")
        for row in (0, len(table.runs) - 1):
            domains = fresh(Mixture.from_array(table.names, table.weights[row])).domains
            for name, values in table.metrics.items():
                assert values[row] == pytest.approx(domains[name].loss_nats, rel=1e-9)


def test_losses_are_written_in_the_study_s_measure(root: Path, mixscout) -> None:
    edit(root / "study.toml", "[search]", '[objective]\nmeasure = "bits-per-byte"\n\n[search]')
    assert mixscout("search", root / "study.toml", "--merges", 4).code == 0
    assert mixscout("table", root / "study.toml", root / "evaluated").out.startswith("wrote 4 evaluated mixtures of 3 ")
    bits = read_swarm(root / "evaluated").metrics["prose"]
    with workbench(read_study_file(root / "study.toml")) as bench:
        uniform = bench.losses["search"](Mixture.uniform(bench.proxy.pool.names)).domains["prose"]
    assert bits[0] == pytest.approx(uniform.bits_per_byte, rel=1e-9)
    assert bits[0] != pytest.approx(uniform.loss_nats, rel=0.05)


def test_a_changed_target_is_answered_without_a_merge_and_can_be_gone_on_from(studied: Path, mixscout) -> None:
    """The table's answer is the first mixture of a study on the pool, in the same database."""
    assert mixscout("table", studied / "study.toml", studied / "evidence").code == 0
    (studied / "changed.toml").write_text(CHANGED)
    merged = _merged(studied)
    assert mixscout("search", studied / "changed.toml").code == 0
    answered = json.loads(mixscout("best", studied / "changed.toml", "--json").out)
    assert _merged(studied) == merged, "nothing was merged"
    even = answered["baselines"]["uniform"]
    assert even["predicted"]["low"] < even["predicted"]["value"] != pytest.approx(even["measured"], abs=1e-9)
    pool_study = CHANGED.replace("changed", "merged").replace('table = "evidence"', 'pool = "pool.toml"')
    start = 'merges = 1\nstart = []\nstart_from = "changed"'
    (studied / "merged.toml").write_text(pool_study.replace("merges = 12", start))
    assert mixscout("search", studied / "merged.toml").code == 0
    found = json.loads(mixscout("best", studied / "merged.toml", "--json").out)
    assert np.allclose(list(found["mixture"].values()), list(answered["mixture"].values()), rtol=0, atol=1e-12)
    predicted = answered["best"]["predicted"]["value"]
    uniform = found["baselines"]["uniform"]["search"]["value"]
    assert found["search"]["value"] < uniform, "what was predicted to be better is"
    assert abs(found["search"]["value"] - predicted) < abs(uniform - predicted)


def test_a_folder_that_is_taken_and_a_study_that_was_not_started_are_refused(studied: Path, mixscout) -> None:
    before = snapshot(studied / "pools")
    for folder, message in (
        (studied / "pools", "pools exists and is not empty; name a new folder"),
        (studied / "pool.toml", "pool.toml exists and is not empty; name a new folder"),
        (studied / "pool.toml" / "below", "cannot write there"),
    ):
        answer = mixscout("table", studied / "study.toml", folder)
        assert answer.code == 1 and message in answer.err and len(answer.err.splitlines()) == 1, answer.err
    assert snapshot(studied / "pools") == before
    (studied / "other.toml").write_text((studied / "study.toml").read_text().replace('"tiny"', '"other"'))
    answer = mixscout("table", studied / "other.toml", studied / "other")
    assert answer.code == 1 and "no study 'other' in" in answer.err
    assert not (studied / "other").exists()
