"""The damage matrix: whatever file of a pool or database is damaged, a verb answers right or names a way that works."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import WAYS
from matrix import HEAVY, LIGHT, Matrix, files_of
from tiny import edit, write_sources

from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a small pool, two studies, truths, and members kept at an age. Shared: never write into it."""
    root = tmp_path_factory.mktemp("sound") / "root"
    root.mkdir()
    write_sources(root)
    edit(root / "pool.toml", "tokens = 6_000", "tokens = 800\nkeep_every_steps = 2")
    edit(root / "pool.toml", "tokens = 12_000", "tokens = 800")
    edit(root / "pool.toml", "train_tokens = 30_000", "train_tokens = 3_000")
    edit(root / "study.toml", "merges = 12", "merges = 5")
    edit(root / "study.toml", 'start = ["uniform", "vertices"]', 'start = ["uniform", "vertices"]\n')
    study = (root / "study.toml").read_text()
    held = study.replace("[gate]", '[objective]\nheld = "mapped"\n\n[gate]')
    (root / "study.toml").write_text(held)
    (root / "other.toml").write_text(held.replace('"tiny"', '"other"').replace('"gradient"', '"random"'))
    (root / "aged.toml").write_text(
        study.replace('"tiny"', '"aged"').replace("[gate]", "[objective]\nmember_age = 2\n\n[gate]")
    )
    build_pool(read_pool_file(root / "pool.toml"))
    shutil.copytree(root / "pools/tiny/members/docs", root / "given/docs")
    return root


@pytest.fixture
def searched(sound: Path, tmp_path: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (sound / "mixscout.db").exists():
        monkeypatch.chdir(sound)
        for line in (
            *("search study.toml", "search other.toml", "search aged.toml", "best study.toml", "confirm study.toml"),
            *(
                "fidelity study.toml --mixtures 6",
                "predict study.toml --mixture code=0.5,docs=0.5",
                "handover study.toml x",
            ),
        ):
            answer = mixscout(*line.split())
            assert answer.code == 0, answer.err
    return sound


@pytest.fixture
def matrix(searched: Path, tmp_path: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    return Matrix(searched, tmp_path, mixscout, monkeypatch.chdir)


@pytest.mark.long
def test_whatever_is_damaged_a_verb_answers_right_or_names_a_way_that_works(matrix: Matrix, searched: Path) -> None:
    faults = []
    only = os.environ.get("DAMAGED", "")
    for file in files_of(searched):
        if only not in file:
            continue
        for way in WAYS:
            verbs = LIGHT if os.environ.get("LIGHT") else LIGHT | HEAVY
            for fault in matrix.faults_of(file, way, verbs):
                print(fault, flush=True)
                faults.append(fault)
    assert not faults
