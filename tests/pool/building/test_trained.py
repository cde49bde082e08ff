"""Models trained on mixtures: once each, several processes at a time, killed and gone on with."""

import shutil
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tiny import snapshot

from pool.building.job import TruthRun, folder_of, is_trained, train_runs, train_to_mixture
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import read_pool_file
from pool.engines.processes import Processes
from pool.errors import PoolError
from pool.files.records import MANIFEST, read_record, write_record
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool

NAMES = ("code", "docs", "prose")
WEIGHTS = ([0.5, 0.5, 0], [0.2, 0.2, 0.6], [0, 0.7, 0.3], [0.1, 0.8, 0.1])


@pytest.fixture
def pool(root: Path) -> Pool:
    return open_pool(read_pool_file(root / "pool.toml"))


def _runs(pool: Pool, count: int) -> list[TruthRun]:
    return [TruthRun(Mixture.from_array(NAMES, weights), pool.config.recipe) for weights in WEIGHTS[:count]]


def test_processes_train_what_one_does_and_what_dies_on_the_way_is_gone_on_with(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    runs = _runs(pool, 4)
    training = train_runs(pool, runs, Processes(2))
    first = next(training)
    kept = snapshot(folder_of(pool, first))
    for process in psutil.Process().children(recursive=True):
        if any("popen_loky" in part for part in process.cmdline()):
            process.kill()
    assert {first, *training} == {*runs}
    assert all(is_trained(pool, run) for run in runs)
    assert snapshot(folder_of(pool, first)) == kept, "nothing is trained twice"
    weights = kept["model.safetensors"]
    shutil.rmtree(folder_of(pool, first))
    train_to_mixture(pool, first.mixture)
    assert snapshot(folder_of(pool, first))["model.safetensors"] == weights, "bit for bit, by as many threads"


def test_another_order_of_the_data_is_another_model_a_vertex_s_too(pool: Pool) -> None:
    other = pool.config.recipe.model_copy(update={"order_seed": 7})
    vertex = Mixture.vertex(NAMES, "docs")
    assert train_to_mixture(pool, vertex) == pool.member_folders["docs"]
    again = train_to_mixture(pool, vertex, other)
    assert again != pool.member_folders["docs"]
    mine, members = (load_file(folder / "model.safetensors") for folder in (again, pool.member_folders["docs"]))
    assert any(not tensor.equal(members[name]) for name, tensor in mine.items())


def test_training_while_the_pool_is_being_built_is_refused_but_not_what_is_trained_already(pool: Pool) -> None:
    from filelock import FileLock

    done, missing = _runs(pool, 2)
    list(train_runs(pool, [done]))
    with FileLock(pool.folder.parent / ".tiny.lock"):
        assert list(train_runs(pool, [done])) == [done]
        with pytest.raises(PoolError, match="is being built by another process"):
            list(train_runs(pool, [missing]))


def test_processor_time_is_in_new_manifests_and_in_no_older_one(pool: Pool, tmp_path: Path) -> None:
    measured = read_record(pool.folder / "seed" / MANIFEST, CheckpointManifest)
    assert measured.processor_seconds is not None and measured.processor_seconds > 0
    assert measured.gpu_seconds is None
    older = measured.model_copy(update={"processor_seconds": None, "trained_unix": None})
    write_record(tmp_path / MANIFEST, older)
    text = (tmp_path / MANIFEST).read_text()
    unmeasured = ("processor_seconds", "gpu_seconds", "trained_unix")
    assert not any(name in text for name in unmeasured), "the file of before, byte for byte"
    assert read_record(tmp_path / MANIFEST, CheckpointManifest) == older
    assert pool.manifest.model_copy(update={"seed": older}).digest == pool.manifest.digest
