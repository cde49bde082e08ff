"""Models trained on mixtures: once each, several processes at a time, killed and gone on with."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from tiny import snapshot

from pool.config import read_pool_file
from pool.errors import PoolError
from pool.mixture import Mixture
from pool.store import Pool, open_pool
from pool.trained import Run, folder_of, is_trained, train_runs, train_to_mixture

NAMES = ("code", "docs", "prose")
WEIGHTS = ([0.5, 0.5, 0], [0.2, 0.2, 0.6], [0, 0.7, 0.3], [0.1, 0.8, 0.1])


@pytest.fixture
def pool(root: Path) -> Pool:
    return open_pool(read_pool_file(root / "pool.toml"))


def _runs(pool: Pool, count: int) -> list[Run]:
    return [Run(Mixture.from_array(NAMES, weights), pool.config.recipe) for weights in WEIGHTS[:count]]


def test_processes_train_what_one_does_and_when_they_die_only_the_unfinished_is_lost(pool: Pool) -> None:
    runs = _runs(pool, 4)
    training = train_runs(pool, runs, workers=2)
    first = next(training)
    for process in psutil.Process().children(recursive=True):
        if any("popen_loky" in part for part in process.cmdline()):
            process.kill()
    with pytest.raises(PoolError, match="a training process died.* run the same command again"):
        list(training)
    finished = {run: snapshot(folder_of(pool, run)) for run in runs if is_trained(pool, run)}
    assert first in finished and len(finished) < 4
    assert {*train_runs(pool, runs)} == {*runs}
    assert all(is_trained(pool, run) for run in runs)
    assert finished == {run: snapshot(folder_of(pool, run)) for run in finished}, "nothing is trained twice"
    in_process = load_file(folder_of(pool, first) / "model.safetensors")
    shutil.rmtree(folder_of(pool, first))
    train_to_mixture(pool, first.mixture)
    for name, tensor in load_file(folder_of(pool, first) / "model.safetensors").items():
        assert tensor.allclose(in_process[name], atol=1e-3), "the number of threads changes the last digits only"


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


CLAIM = """
import sys
from pathlib import Path
from pool.devices import claim_device
print(claim_device(("3", "5"), Path(sys.argv[1])), claim_device(("3", "5"), Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_processes_claim_a_device_each_and_share_only_when_they_are_more(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    claimed = [process.stdout.readline().split() for process in processes]
    for process in processes:
        process.communicate()
    assert all(first == second for first, second in claimed), "a process keeps its device"
    assert sorted(first for first, _ in claimed) in (["3", "3", "5"], ["3", "5", "5"])
