"""Shared by all suites: a tiny real pool (three partitions of real text, a two-layer Llama), built once a session."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import optuna
import pytest
import transformers
from given import write_foreign
from tiny import edit, write_sources

from objectives.merging.merge import StackedPool
from pool.building.build import build_pool
from pool.config.pool_file import PoolFile, read_pool_file
from pool.parts.store import Pool, open_pool
from studies.command_line.app import main


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs of this machine from tests that do not ask for them: their expectations are a CPU's.

    `make gpu` (pytest -m gpu) runs the others. Processes of tests inherit the mask.
    """
    if not re.search(r"(?<!not )\bgpu\b", config.getoption("markexpr")):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session", autouse=True)
def quiet_libraries() -> None:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_HUB_OFFLINE=1, which the libraries read when they are imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def built_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a built tiny pool. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_sources(folder)
    build_pool(read_pool_file(folder / "pool.toml"))
    return folder


@pytest.fixture
def root(built_root: Path, tmp_path: Path) -> Path:
    """A copy of the built root, to change at will."""
    shutil.copytree(built_root, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture(scope="session")
def untied_foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as others make them, with a head of its own. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("foreign")
    write_foreign(folder, ["a little text"], tied=False)
    return folder


@pytest.fixture
def empty_root(tmp_path: Path) -> Path:
    """The sources and TOML files, with nothing built."""
    folder = tmp_path / "sources"
    folder.mkdir()
    write_sources(folder)
    return folder


@pytest.fixture(scope="session")
def united_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a pool of base units in two groups, hardly trained. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("united")
    write_sources(folder)
    pool = folder / "pool.toml"
    edit(pool, "held_out_share = 0.2", "held_out_share = 0.2\nbase_units_tokens = 15_000")
    edit(pool, "[tokenizer]", '[corpus.groups]\ntext = ["docs*", "pro*"]\n\n[tokenizer]')
    edit(pool, "tokens = 6_000", "tokens = 600")
    edit(pool, "tokens = 12_000", "tokens = 600")
    build_pool(read_pool_file(pool))
    return folder


@pytest.fixture(scope="session")
def tiny_config(built_root: Path) -> PoolFile:
    return read_pool_file(built_root / "pool.toml")


@pytest.fixture(scope="session")
def tiny_pool(tiny_config: PoolFile) -> Pool:
    return open_pool(tiny_config)


@pytest.fixture(scope="session")
def tiny_stack(tiny_pool: Pool) -> StackedPool:
    return StackedPool(tiny_pool.member_folders)


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def mixscout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answer]]:
    """Run a command line in this process, exactly as the installed command does."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["mixscout", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    yield run
