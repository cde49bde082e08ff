"""Every command that may write to a study or a pool is in a ledger once, whatever its end; so are calls from Python."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest
from forked import Forks
from tiny import edit, snapshot

import mixscout as api
from pool.config.pool_file import read_pool_file
from pool.errors import MixscoutError
from pool.parts.commands import Command, kept_in_pool
from studies.database.commands import kept_in_study
from studies.opened.ledger import charged
from studies.opened.opening import open_study
from studies.study_file.study_file import read_study_file


@pytest.fixture
def begun(begun_root: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun_root, tmp_path / "root")


def _of_study(root: Path) -> list[Command]:
    config = read_study_file(root / "study.toml")
    with open_study(config) as bench:
        return kept_in_study(bench.database.engine, config.name)


def _of_pool(root: Path) -> list[Command]:
    return kept_in_pool(read_pool_file(root / "pool.toml").folder)


def _counted(*words: object) -> float:
    """Run a command in a process of its own; return the processor seconds that the system counted."""
    before = getrusage(RUSAGE_CHILDREN)
    whole = [sys.executable, "-m", "studies.command_line.app", *map(str, words)]
    subprocess.run(whole, check=True, capture_output=True)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.long
@pytest.mark.parametrize("more", [[], ["--workers", 2]])
def test_a_command_is_charged_with_what_the_system_counts(begun: Path, more: list[object]) -> None:
    counted = _counted("search", begun / "study.toml", "--merges", 8, *more)
    (search,) = _of_study(begun)
    assert search.verb == "search"
    ends, trackers = 0.5, 1.0  # of the process, behind its entry; of processes that it does not wait for
    assert counted - ends < search.processor_seconds < counted + trackers


def test_a_command_that_fails_is_charged_too(begun: Path, forked: Forks) -> None:
    answer = forked.run("distill", begun / "study.toml", "--layers", 9)
    assert answer.code == 1 and "layers 9" in answer.err
    assert [one.verb for one in _of_study(begun)] == ["distill"]
    edit(begun / "pool.toml", "tokens = 6_000", "tokens = 7_000")
    refused = forked.run("pool", "build", begun / "pool.toml")
    assert refused.code == 1 and [one.verb for one in _of_pool(begun)] == ["pool build"]


def test_verbs_that_only_read_and_dry_runs_leave_no_entry(begun: Path, forked: Forks, tmp_path: Path) -> None:
    study, before = begun / "study.toml", snapshot(begun)
    for words in (
        ["cost", study],
        ["report", study, "--output", tmp_path / "report"],
        ["prior", study, "--counted"],
        ["search", study, "--merges", 9, "--dry-run"],
        ["pool", "show", begun / "pool.toml"],
    ):
        answer = forked.run(*words)
        assert answer.code == 0, answer.err
    assert snapshot(begun) == before
    assert _of_study(begun) == _of_pool(begun) == []


def test_calls_from_python_are_charged_for_as_long_as_they_take(begun: Path) -> None:
    with api.open_study(begun / "study.toml") as study:
        assert study.best.mixture == study.best_mixture
        study.search(6)
        with suppress(MixscoutError):
            study.distill(layers=9)
    verbs = [one.verb for one in _of_study(begun)]
    assert verbs == ["open", "best", "search", "distill"]
    api.build_pool(begun / "pool.toml")
    assert [one.verb for one in _of_pool(begun)] == ["pool build"]


def test_a_call_within_a_call_belongs_to_that(begun: Path) -> None:
    config = read_study_file(begun / "study.toml")
    with charged(config, "outer"), charged(config, "inner"):
        pass
    assert [one.verb for one in _of_study(begun)] == ["outer"]


def test_a_study_that_cannot_keep_a_ledger_is_answered_all_the_same(begun: Path, mixscout: Callable) -> None:
    config = read_study_file(begun / "study.toml")
    with charged(config, "gone"):
        (begun / "study.toml").unlink()
        (begun / "pool.toml").unlink()
    (begun / "mixscout.db").unlink()
    with charged(config, "without a database"):
        pass
    assert not (begun / "mixscout.db").exists()
