"""Killed with SIGKILL at any moment, the same command goes on: nothing lost, nothing done twice, the exact budget."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import killed_search
import optuna
import pytest

from pool.config.pool_file import read_pool_file
from pool.files.digests import digest_file
from pool.parts.store import open_pool

MERGES = 18


Run = Callable[[Path, str, int], int]
"""A search in a database, killed at the nth call of a place (0: never); returns how its process ended."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    command = [sys.executable, killed_search.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        requests, answers = server.stdin, server.stdout

        def run(database: Path, where: str, nth: int) -> int:
            print(json.dumps([str(database), MERGES, where, nth]), file=requests, flush=True)
            return int(answers.readline())

        yield run


def _trials(database: Path) -> list[tuple[object, ...]]:
    study = optuna.load_study(storage=f"sqlite:///{database}", study_name="s")
    return [
        (trial.number, trial.state.name, tuple(trial.params.items()), trial.value, trial.user_attrs["mixscout:verdict"])
        for trial in study.get_trials()
    ]


@pytest.fixture(scope="module")
def undisturbed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    database = tmp_path_factory.mktemp("undisturbed") / "study.db"
    assert run(database, "", 0) == 0
    trials = _trials(database)
    assert Counter(state for _, state, *_ in trials)["COMPLETE"] == MERGES
    return trials


PLACES = [
    ("after:enqueue", 1),
    ("after:ask", 1),
    ("after:ask", 9),
    ("before:suggest", 7),
    ("after:suggest", 38),
    ("after:attribute", 3),
    ("after:attribute", 31),
    ("before:keep", 8),
    ("after:keep", 8),
    ("before:tell", 12),
    ("after:tell", 12),
]


@pytest.mark.parametrize(("where", "nth"), PLACES)
def test_a_search_killed_at_an_exact_place_ends_as_if_undisturbed(
    run: Run, where: str, nth: int, undisturbed: list[tuple[object, ...]], tmp_path: Path
) -> None:
    database = tmp_path / "study.db"
    assert run(database, where, nth) == -signal.SIGKILL
    assert run(database, "", 0) == 0
    assert _trials(database) == undisturbed
    evaluated = Counter((tmp_path / "study.log").read_text().split())
    twice = [mixture for mixture, times in evaluated.items() if times > 1]
    assert len(twice) == (1 if where == "before:keep" else 0), "only what was not kept yet is done again"


def _start(*command: object, wait_for: str) -> subprocess.Popen[str]:
    """Start a command and wait until it says on stderr that the work has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "studies.command_line.app", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if wait_for in line:
            return process
    raise AssertionError(f"{command} ended without saying {wait_for!r}")


def _kill_some_times(rng: random.Random, kills: int, longest: float, *command: object, wait_for: str) -> int:
    """Kill a command at random moments of its work; return how often it was still running."""
    caught = 0
    for _ in range(kills):
        process = _start(*command, wait_for=wait_for)
        time.sleep(rng.uniform(0, longest))
        caught += process.poll() is None
        process.kill()
        process.communicate()
    return caught


def _weights(root: Path) -> dict[str, str]:
    files = sorted((root / "pools").rglob("model.safetensors"))
    return {str(path.relative_to(root)): digest_file(path) for path in files}


def test_a_real_build_and_a_real_search_killed_at_random_end_as_if_undisturbed(
    empty_root: Path, built_root: Path, root: Path, mixscout: Callable
) -> None:
    rng = random.Random(20)
    build = ("pool", "build", empty_root / "pool.toml")
    caught = _kill_some_times(rng, 3, 0.8, *build, wait_for="/")
    assert caught >= 2, "the kills came too late to prove anything"
    assert mixscout(*build).code == 0
    assert _weights(empty_root) == _weights(built_root)
    leftovers = [path for path in (empty_root / "pools").rglob(".*") if path.suffix in (".tmp", ".scratch")]
    assert leftovers == []

    search = ("search", empty_root / "study.toml", "--merges", 20)
    caught = _kill_some_times(rng, 3, 1.5, *search, wait_for="search tiny:")
    assert caught >= 2, "the kills came too late to prove anything"
    counts = json.loads(mixscout(*search, "--json").out)["counts"]
    assert counts["merges"] == 20
    assert mixscout("search", root / "study.toml", "--merges", 20).code == 0
    best = [json.loads(mixscout("best", folder / "study.toml", "--json").out) for folder in (empty_root, root)]
    for one in best:
        one["counts"].pop("cached")  # a merge kept just before a kill is remembered when the trial goes on
    assert best[0] == best[1]


def test_a_real_rebuild_killed_at_random_leaves_the_old_pool_and_ends_as_if_undisturbed(
    root: Path, mixscout: Callable
) -> None:
    before, digest = _weights(root), open_pool(read_pool_file(root / "pool.toml")).manifest.digest
    build = ("pool", "build", root / "pool.toml", "--rebuild", "code", "--rebuild", "docs")
    caught = _kill_some_times(random.Random(21), 1, 0.4, *build, wait_for="member 'docs': 0/")
    assert caught == 1, "the kill came too late to prove anything"
    assert open_pool(read_pool_file(root / "pool.toml")).manifest.digest == digest
    half = _weights(root)
    assert {name: half[name] for name in before} == before
    assert [name.rpartition("/members/")[2] for name in half if name not in before] == ["code/model.safetensors"]
    written = {name: (root / name).stat().st_mtime_ns for name in half}
    assert mixscout(*build).code == 0
    assert _weights(root) == before
    (made,) = (written[name] for name in half if name not in before)
    assert (root / "pools/tiny/members/code/model.safetensors").stat().st_mtime_ns == made, "it is not trained twice"
    assert [path for path in (root / "pools").rglob(".*") if path.suffix != ".lock"] == []
