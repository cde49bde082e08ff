"""What a build would cost is measured without building, and holds what the build then takes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import edit, snapshot

import pool.building.training.costs as training_costs
from pool.building import costs
from pool.building.costs import build_costs
from pool.building.training.costs import Costs, Seconds, Setting
from pool.config.pool_file import read_pool_file
from pool.engines.engine import ONE_BY_ONE
from pool.engines.processes import Processes
from pool.errors import PoolError


@pytest.fixture(scope="module")
def first_build(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """The costs of the tiny pool's first build, measured on its sources alone."""
    folder = tmp_path_factory.mktemp("costed")
    for path in built_root.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    before = snapshot(folder)
    found = build_costs(read_pool_file(folder / "pool.toml"))
    assert snapshot(folder) == before
    return found


def test_a_first_build_is_counted_exactly_and_its_disk_is_close(first_build: Costs, built_root: Path) -> None:
    assert (first_build.runs, first_build.merges) == (4, 0)
    assert first_build.train_tokens == (12_000 // 256 + 3 * (6_000 // 256)) * 256
    assert not any(first_build.remembered.values())
    built = sum(path.stat().st_size for path in (built_root / "pools").rglob("*") if path.is_file())
    assert first_build.disk_bytes == pytest.approx(built, rel=0.15)
    assert first_build.notes == ()


def test_a_time_has_a_range_and_memory_is_that_of_the_process(first_build: Costs) -> None:
    assert list(first_build.parts) == ["reading text", "the tokenizer", "tokens", "the seed", "members"]
    seconds = first_build.seconds
    assert 0 < seconds.low <= seconds.likely <= seconds.high
    assert first_build.memory_bytes > 10**8
    assert repr(first_build).startswith("<mixscout.Costs of the build of pool 'tiny': 4 runs, 0 merges, about ")


def test_of_a_pool_that_is_built_everything_is_remembered_and_nothing_costs(built_root: Path) -> None:
    before = snapshot(built_root)
    found = build_costs(read_pool_file(built_root / "pool.toml"))
    assert (found.runs, found.train_tokens, found.disk_bytes, found.seconds) == (0, 0, 0, Seconds())
    assert found.remembered == {"models": 4, "corpus": 1}
    assert snapshot(built_root) == before


def test_of_a_member_to_rebuild_only_that_run_is_counted(root: Path) -> None:
    edit(root / "pool.toml", "checkpoint_steps = 5", "checkpoint_steps = 5\nkeep_every_steps = 10")
    found = build_costs(read_pool_file(root / "pool.toml"), ["prose"], Processes(2))
    assert (found.runs, found.remembered["models"], found.more_memory_bytes) == (1, 3, 0)


def test_runs_side_by_side_take_rounds_and_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[list[str]]()
    monkeypatch.setattr(training_costs.subprocess, "run", lambda command, **_: started.append(command))
    setting = Setting.of(Processes(2), 3)
    assert setting.places == 2 and setting.starting > 0 and len(started) == 1
    found = replace(setting, starting=5.0).all([Seconds(10, 8, 12)] * 3)
    assert found == Seconds(25, 21, 29)
    assert Setting.of(ONE_BY_ONE, 3).all([Seconds(10, 8, 12)] * 3) == Seconds(30, 24, 36)


def test_a_sample_stands_for_longer_text_and_tells_of_empty_files_too(
    empty_root: Path, monkeypatch: pytest.MonkeyPatch, first_build: Costs, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_root / "code-2.jsonl").touch()
    edit(empty_root / "pool.toml", 'files = ["code.jsonl"]', 'files = ["code*.jsonl"]')
    monkeypatch.setattr(costs, "SAMPLE_BYTES", 0)
    monkeypatch.setattr(costs, "_LEAST_SAMPLE_BYTES", 40_000)
    found = build_costs(read_pool_file(empty_root / "pool.toml"))
    told = f"code: passed over 1 empty file: {empty_root}/code-2.jsonl"
    assert [line for line in capsys.readouterr().err.splitlines() if "passed" in line] == [told]
    assert found.notes == ("the text is estimated from a sample of it",)
    assert found.runs == 4
    assert found.disk_bytes == pytest.approx(first_build.disk_bytes, rel=0.15)


def test_too_little_memory_or_disk_is_refused(first_build: Costs, monkeypatch: pytest.MonkeyPatch) -> None:
    first_build.check_room()
    with monkeypatch.context() as patch, pytest.raises(PoolError, match=r"takes about .* of disk, and the disk of .*"):
        patch.setattr(training_costs, "disk_free", lambda place: 1000)
        first_build.check_room()
    with pytest.raises(PoolError, match=r"takes about .* GB more memory, and .* GB is free; take a smaller"):
        replace(first_build, memory_bytes=10**15).check_room()


def test_the_verb_prints_the_costs_and_builds_nothing(empty_root: Path, mixscout: Callable) -> None:
    said = mixscout("pool", "build", empty_root / "pool.toml", "--dry-run")
    assert said.code == 0, said.err
    assert "The costs of the build of pool 'tiny'; nothing was done" in said.out
    for row in ("runs to be trained", "tokens to train on", "time in all", "peak memory", "remembered already"):
        assert row in said.out
    assert "measuring the text on a sample of it" in said.err
    assert "measuring a few steps of training: the seed" in said.err
    assert not (empty_root / "pools").exists()


def test_the_verb_prints_json_and_refuses_behind_it(
    root: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_costs, "free_host_memory", lambda: -(10**12))
    said = mixscout("pool", "build", root / "pool.toml", "--dry-run", "--json")
    assert said.code == 1
    assert json.loads(said.out)["remembered"] == {"models": 4, "corpus": 1}
    assert "take a smaller model" in said.err
