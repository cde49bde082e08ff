"""Members trained side by side are the members trained one by one, whatever dies on the way."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from import_path import IMPORT_PATH
from ray_nodes import Cluster, ray_cluster, remove_node_of
from safetensors.torch import load_file
from unfit import Unfit

from pool.building.build import build_pool
from pool.building.job import TrainingJob
from pool.config.pool_file import read_pool_file
from pool.engines.processes import Processes
from pool.engines.ray_tasks import ray_tasks
from pool.engines.resources import Resources
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.mixture import Mixture
from pool.parts.layout import PoolLayout
from pool.parts.provenance import member_provenance
from pool.parts.store import Pool

NAMES = ("code", "docs", "prose")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster({"num_cpus": 1}, {"num_cpus": 1}) as started:
        yield started


@pytest.fixture
def unbuilt(root: Path) -> Path:
    """A root with a seed and no members."""
    shutil.rmtree(root / "pools/tiny/members")
    (root / "pools/tiny/pool.json").unlink()
    return root


def _weights(root: Path) -> dict[str, str]:
    return {name: digest_file(root / "pools/tiny/members" / name / "model.safetensors") for name in NAMES}


class Accident:
    """Kills what trains a member, one of them, once that member has a checkpoint on the way; watches it afterwards."""

    def __init__(self, root: Path, kill: Callable[[int], bool]) -> None:
        self.members = root / "pools/tiny/members"
        self.kill = kill
        self.victim = ""
        self.steps: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Accident:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            if self.victim:
                self.steps += self._on_the_way(self.victim)
                continue
            for name in NAMES:
                steps = self._on_the_way(name)
                if steps and self._kill_at(name):
                    self.victim, self.steps = name, [max(steps)]
                    break

    def _on_the_way(self, name: str) -> list[int]:
        found = self.members.glob(f".{name}.*.scratch/checkpoint-*/digests.json")
        return [int(path.parent.name.rpartition("-")[2]) for path in found]

    def _kill_at(self, name: str) -> bool:
        lock = str(self.members / f".{name}.lock")
        for process in psutil.process_iter():
            try:
                if process.pid != psutil.Process().pid and _holds(process, lock):
                    process.suspend()  # or the member might be done before the kill
                    try:
                        killed = _holds(process, lock) and self.kill(process.pid)
                        if killed:  # a lost node takes its processes along, and none may finish meanwhile
                            with suppress(psutil.NoSuchProcess):
                                process.kill()
                        return killed
                    finally:
                        with suppress(psutil.NoSuchProcess):  # killed
                            process.resume()
            except psutil.Error:
                continue
        return False


def _holds(process: psutil.Process, lock: str) -> bool:
    return any(file.path == lock for file in process.open_files())


def _kill_process(number: int) -> bool:
    psutil.Process(number).kill()
    return True


def _check(accident: Accident, root: Path, built_root: Path, said: str) -> None:
    assert accident.victim, "the accident came too late to prove anything"
    assert min(accident.steps) == accident.steps[0] > 0, "it went on from its last checkpoint"
    assert said.count("the job goes on") == 1 and f"member '{accident.victim}': its" in said
    assert _weights(root) == _weights(built_root), "bit for bit those of an undisturbed build one by one"
    leftovers = [path for path in (root / "pools").rglob(".*") if path.suffix in (".tmp", ".scratch")]
    assert leftovers == []


def test_a_process_killed_in_the_middle_costs_its_member_s_last_steps_and_the_build_goes_on_by_itself(
    unbuilt: Path, built_root: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with Accident(unbuilt, _kill_process) as accident:
        pool = build_pool(read_pool_file(unbuilt / "pool.toml"), engine=Processes(3))
    assert pool.names == NAMES
    _check(accident, unbuilt, built_root, capsys.readouterr().err)


def test_a_node_lost_in_the_middle_costs_its_member_s_last_steps_and_the_build_goes_on_by_itself(
    unbuilt: Path, built_root: Path, cluster: Cluster, capsys
) -> None:
    with (
        Accident(unbuilt, lambda process: remove_node_of(cluster, process)) as accident,
        ray_tasks(cluster.address, None, Resources()) as engine,
    ):
        assert engine.places == 3
        build_pool(read_pool_file(unbuilt / "pool.toml"), engine=engine)
    _check(accident, unbuilt, built_root, capsys.readouterr().err)


def test_a_member_whose_process_is_killed_for_memory_is_trained_in_smaller_parts_in_the_same_steps(
    unbuilt: Path, built_root: Path, tiny_pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    monkeypatch.setenv("PYTHONPATH", IMPORT_PATH)
    config, seed = tiny_pool.config, tiny_pool.manifest.seed
    wanted = member_provenance(Mixture.vertex(NAMES, "docs"), config.recipe, tiny_pool.manifest.corpus, seed)
    training = TrainingJob(
        PoolLayout(unbuilt / "pools/tiny"), unbuilt / "pools/tiny/members/docs", wanted, "member 'docs'"
    )
    ((_, manifest),) = Processes(1).run([replace(training.job, work=Unfit(training, 2))])
    said = capsys.readouterr().err
    for how in (
        "\n",
        ", 4 of 8 windows at a time\n",
        ", 2 of 8 windows at a time\n",
    ):
        assert said.count(f"member 'docs': its process died; the job goes on{how}") == 1
    assert manifest.tokens == tiny_pool.manifest.members["docs"].tokens
    start, whole = (
        load_file(built_root / "pools/tiny" / name / "model.safetensors") for name in ("seed", "members/docs")
    )
    parts = load_file(training.folder / "model.safetensors")
    for name, tensor in whole.items():
        assert (tensor - parts[name]).norm() < 0.02 * (tensor - start[name]).norm(), "only the order of sums differs"
    assert list(training.folder.parent.glob(".*.scratch")) == []


def test_a_machine_that_does_not_see_the_pool_says_so_and_leaves_nothing(tiny_pool: Pool, tmp_path: Path) -> None:
    config, seed = tiny_pool.config, tiny_pool.manifest.seed
    vertex = Mixture.vertex(NAMES, "docs")
    wanted = member_provenance(vertex, config.recipe, tiny_pool.manifest.corpus, seed)
    with pytest.raises(PoolError, match="seed/manifest.json is not there on .*a file system that they share"):
        TrainingJob(PoolLayout(tmp_path / "pool"), tmp_path / "pool/members/docs", wanted, "member 'docs'")()
    assert list(tmp_path.iterdir()) == []
