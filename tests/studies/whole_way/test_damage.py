"""The damage matrix: whatever file of a pool or database is damaged, a verb answers right or names a way that works."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import WAYS
from matrix import LIGHT, Matrix, files_of, verbs_for
from tiny import edit, write_sources

from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file
from studies.opened.on_pool import workbench
from studies.outcome.dashboard.loopback import LoopbackServer
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file


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


STUDIED = (
    *("search study.toml", "search other.toml", "search aged.toml", "best study.toml", "confirm study.toml"),
    *("fidelity study.toml --mixtures 6", "predict study.toml --mixture code=0.5,docs=0.5"),
)


@pytest.fixture
def searched(sound: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (sound / "mixscout.db").exists():
        monkeypatch.chdir(sound)
        for line in STUDIED:
            answer = mixscout(*line.split())
            assert answer.code == 0, answer.err
    return sound


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_damaged_a_verb_answers_right_or_names_a_way_that_works(
    way: str,
    searched: Path,
    tmp_path: Path,
    mixscout: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(LoopbackServer, "serve_forever", lambda server: None)
    matrix, faults = Matrix(searched, tmp_path, mixscout, monkeypatch.chdir), list[str]()
    for file in files_of(searched):
        found = list(matrix.faults_of(file, way, verbs_for(file)))
        faults += found
        with capsys.disabled():
            print(f"{file} ({way}): {len(faults)} faults so far", *found, sep="\n")
    assert not faults, "\n".join(faults)


SAMPLE = {
    "pools/tiny/pool.json": ("a byte changed", ("show", "build")),
    "pools/tiny/members/code/manifest.json": ("cut short", ("best",)),
    "pools/tiny/members/code/model.safetensors": ("a byte changed", ("search",)),
    "pools/tiny/tokenizer/tokenizer_config.json": ("cut short", ("show",)),
    "pools/tiny/corpus/train/code.npy": ("empty", ("show",)),
    "pools/tiny/corpus/corpus.json": ("empty", ("build",)),
    "mixscout.db": ("cut short", ("best",)),
}


@pytest.fixture(scope="module")
def few_merges(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pool, and a short study on it. Shared: never write into it."""
    root = tmp_path_factory.mktemp("few") / "root"
    shutil.copytree(built_root, root)
    edit(root / "study.toml", "merges = 12", "merges = 5")
    with workbench(read_study_file(root / "study.toml")) as bench:
        run_search(bench, 5)
    return root


@pytest.mark.parametrize("file", SAMPLE)
def test_a_sample_of_the_matrix(
    file: str, few_merges: Path, tmp_path: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, verbs = SAMPLE[file]
    matrix = Matrix(few_merges, tmp_path, mixscout, monkeypatch.chdir)
    assert list(matrix.faults_of(file, way, {name: LIGHT[name] for name in verbs})) == []


def test_everything_is_rebuilt_over_damage_of_every_record(root: Path, mixscout: Callable) -> None:
    pool = root / "pools/tiny"
    for record in pool.rglob("*.json"):
        record.write_bytes(record.read_bytes()[:40])
    stage = pool / ".new-0123456789ab"
    stage.mkdir()
    (stage / "exchange.json").write_text('{"new": [')
    shown = mixscout("pool", "show", root / "pool.toml")
    assert shown.code == 1 and "exchange.json is not a record" in shown.err and "--rebuild all`" in shown.err
    edit(root / "pool.toml", "tokens = 6_000", "tokens = 600")
    edit(root / "pool.toml", "tokens = 12_000", "tokens = 600")
    assert mixscout("pool", "build", root / "pool.toml", "--rebuild", "all").code == 0
    assert mixscout("pool", "show", root / "pool.toml").code == 0
    assert not [path for path in pool.rglob(".*") if path.suffix != ".lock"]
