"""Damaged inputs of every kind: a right answer or one clear error, never a traceback, a hang or a changed file.

A few inputs a kind run with the suite; `make long` runs two thousand.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from given import write_foreign
from mutations import at_most, damaged
from small_table import write_small_study

from pool.checkpoints.foreign import find_foreign
from pool.config.pool_file import read_pool_file
from pool.errors import MixscoutError, StorageError
from pool.parts.others import load_foreign
from pool.parts.store import open_pool
from search.trials import count_trials
from studies.opened.goal import targets_of
from studies.opened.on_pool import asked_pool, basis_of
from studies.opened.on_table import swarm_bench
from studies.opened.opened_study import best_mixture, checked_space
from studies.opened.opening import open_to_read
from studies.running.run import run_search
from studies.study_file.study_file import StudyFile, read_study_file

ROUNDS = pytest.mark.parametrize("rounds", [30, pytest.param(2000, marks=pytest.mark.long)])
SECONDS = 20
"""More than any answer takes on a busy machine; the longest seen was under two."""
LONGEST = 2000
"""Letters of the longest message; a name or a value from the input is part of it."""


def _fuzz(path: Path, answer: Callable[[], object], rounds: int, *, seed: int = 0) -> int:
    """Answer from every damaged version of a file, and return how many were refused."""
    right, refused = path.read_bytes(), 0
    for number, data in enumerate(damaged(right, rounds=rounds, seed=seed)):
        path.write_bytes(data)
        try:
            with at_most(SECONDS):
                answer()
        except MixscoutError as error:
            message = str(error)
            assert message and "Traceback" not in message and len(message) < LONGEST, (number, data, message)
            refused += 1
        except OSError as error:  # the command names its file in one line
            assert error.filename is not None, (number, data)
            refused += 1
        except Exception as error:
            raise AssertionError(f"input {number}: {data[:2000]!r}") from error
        assert path.read_bytes() == data
    path.write_bytes(right)
    answer()
    return refused


@ROUNDS
def test_a_damaged_pool_file(rounds: int, empty_root: Path) -> None:
    path = empty_root / "pool.toml"
    assert _fuzz(path, lambda: read_pool_file(path), rounds) > rounds // 4
    assert not (empty_root / "pools").exists()


@ROUNDS
def test_a_damaged_study_file_on_a_pool(rounds: int, built_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    text = (built_root / "study.toml").read_text()
    path.write_text(text.replace('"pool.toml"', f'"{built_root}/pool.toml"'))

    def answer() -> None:
        config = read_study_file(path)
        if config.pool is None:
            return
        basis = basis_of(asked_pool(config.pool, age=config.objective.member_age, by_groups=False))
        targets_of(config, basis)
        checked_space(config, basis)

    assert _fuzz(path, answer, rounds) > rounds // 4
    assert list(tmp_path.iterdir()) == [path]


@ROUNDS
@pytest.mark.parametrize("name", ["pool.json", "members/docs/manifest.json", "seed/manifest.json"])
def test_a_damaged_record_of_a_pool(name: str, rounds: int, root: Path) -> None:
    config = read_pool_file(root / "pool.toml")
    path = config.folder / name
    assert _fuzz(path, lambda: open_pool(config).corpus.held_out["search"], rounds // 2) > rounds // 8


@ROUNDS
def test_a_damaged_header_of_a_given_checkpoint(rounds: int, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    write_foreign(folder, ["some text of a few words"] * 20)
    path = folder / "model.safetensors"
    right = path.read_bytes()
    header = 8 + int.from_bytes(right[:8], "little")
    path.write_bytes(right[:header])
    weights = right[header:]

    def answer() -> None:
        start = path.read_bytes()
        whole = folder / "whole"
        shutil.copytree(folder, whole, ignore=shutil.ignore_patterns("whole"))
        (whole / path.name).write_bytes(start + weights)
        try:
            load_foreign(find_foreign(whole, "the seed"), "the seed")
        finally:
            shutil.rmtree(whole)

    assert _fuzz(path, answer, rounds) > rounds // 4


@ROUNDS
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_json_file_of_a_given_checkpoint(name: str, rounds: int, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    write_foreign(folder, ["some text of a few words"] * 20)
    _fuzz(folder / name, lambda: load_foreign(find_foreign(folder, "the seed"), "the seed"), rounds // 2)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study on a table, searched. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("searched")
    with swarm_bench(read_study_file(write_small_study(folder))) as bench:
        run_search(bench, 12)
    return folder


@ROUNDS
def test_a_damaged_database(rounds: int, searched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(searched, folder)
    config = read_study_file(folder / "study.toml")
    _fuzz(folder / "mixscout.db", lambda: _read_all(config), rounds)


def _read_all(config: StudyFile) -> None:
    with open_to_read(config) as bench:
        study = bench.known_study()
        count_trials(study)
        best_mixture(bench, study)
        bench.database.evaluations.all_of(bench.objective.digest)


DAMAGED_ROWS = (
    "UPDATE trial_params SET distribution_json = replace(distribution_json, 'high', 'Hog')",
    "UPDATE trial_params SET param_name = 'x' || param_name",
    "UPDATE study_user_attributes SET value_json = '{'",
    "UPDATE evaluations SET domains = '[1]'",
)


@pytest.mark.parametrize("damage", DAMAGED_ROWS)
def test_a_row_that_means_nothing_is_a_damaged_database(damage: str, searched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(searched, folder)
    with closing(sqlite3.connect(folder / "mixscout.db")) as database, database:
        database.execute(damage)
    with pytest.raises(StorageError, match="is not a database that can be read: it is damaged"):
        _read_all(read_study_file(folder / "study.toml"))


def test_a_table_whose_name_is_no_text_is_a_damaged_database(searched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(searched, folder)
    with closing(sqlite3.connect(folder / "mixscout.db")) as database, database:
        database.execute("PRAGMA writable_schema=ON")
        database.execute(
            "UPDATE sqlite_master SET name = CAST(x'8b' AS TEXT), sql = 'CREATE TABLE (' WHERE name = 'trials'"
        )
    with pytest.raises(StorageError, match="is not a database that can be read: it is damaged"):
        _read_all(read_study_file(folder / "study.toml"))
