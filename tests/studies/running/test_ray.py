"""Searching and judging on a Ray cluster: the exact budget and the same models, also when a node is lost."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from ray_nodes import Cluster, ray_cluster, remove_node_of
from servers import Postgres
from sqlalchemy import create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from tiny import edit, snapshot

from pool.building.job import TruthRun, folder_of, train_to_mixture
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import read_pool_file
from pool.engines.engine import OneByOne
from pool.errors import ConfigError
from pool.files.records import read_record
from pool.mixture import Mixture
from pool.parts.store import open_pool
from studies.database.address import VARIABLE
from studies.database.leases import LEASES
from studies.outcome.cost.find import run_cost
from studies.running.workers import Advancing, run_workers
from studies.study_file.study_file import read_study_file

MERGES = 40
SECRET = "wAlruS+0fTeN"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster({"num_cpus": 1}, {"num_cpus": 1}) as started:
        yield started


class Accident:
    """Kills a node whose worker is at a trial, one that is not the first."""

    def __init__(self, url: str, cluster: Cluster) -> None:
        self.engine = create_engine(url)
        self.cluster = cluster
        self.trial: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Accident:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.engine.dispose()

    def _watch(self) -> None:
        trials = select(LEASES.c.item, LEASES.c.holder).where(LEASES.c.scope.startswith("study-"))
        while not self._ended.wait(0.005) and self.trial is None:
            try:
                with self.engine.connect() as connection:
                    busy = list(connection.execute(trials))
            except SQLAlchemyError:  # the tables are not made yet
                continue
            for item, holder in busy:
                if int(item) > 2 and remove_node_of(self.cluster, int(holder.split(":")[1])):
                    self.trial = item
                    break


def test_a_search_that_loses_a_node_makes_exactly_its_budget(
    root: Path,
    cluster: Cluster,
    postgres: Postgres,
    new_address: Callable[[str], str],
    mixscout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = new_address("postgres").replace("postgres@", f"postgres:{SECRET}@")
    monkeypatch.setenv(VARIABLE, url)
    study = root / "study.toml"
    edit(study, 'strategy = "gradient"', 'strategy = "random"')
    edit(study, "min_evidence = 5", "enabled = false")
    with Accident(url, cluster) as accident:
        answer = mixscout(
            "search", study, "--engine", "ray", "--address", cluster.address, "--merges", MERGES, "--json"
        )
    assert answer.code == 0, answer.err
    assert accident.trial is not None, "the accident came too late to prove anything"
    assert "its node is gone; the job goes on" in answer.err
    assert json.loads(answer.out)["counts"]["merges"] == MERGES
    trials = optuna.load_study(storage=url, study_name="tiny").get_trials()
    states = [trial.state.name for trial in trials]
    assert states == ["COMPLETE"] * MERGES, "none is left running, the lost node's neither"
    with create_engine(url).connect() as connection:
        assert list(connection.execute(select(LEASES))) == [], "the lost node's leases neither"
    assert len({tuple(trial.params.values()) for trial in trials}) == MERGES, "no mixture twice"
    session = Path(cluster.head_node.get_session_dir_path())
    logs = [path for path in session.rglob("*") if path.is_file()]
    assert any("worker" in path.name for path in logs), "workers keep logs"
    assert SECRET not in answer.out + answer.err
    assert [path for path in logs if SECRET.encode() in path.read_bytes()] == []


def test_truths_trained_on_a_cluster_are_the_models_trained_here(
    root: Path, cluster: Cluster, mixscout, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "here")
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    command = ("fidelity", root / "study.toml", "--mixtures", 6, "--exponents", "0.5", "--json")
    answer = mixscout(*command, "--engine", "ray", "--address", cluster.address)
    assert answer.code == 0, answer.err
    assert len(json.loads(answer.out)["mixtures"]) == 6
    there = open_pool(read_pool_file(root / "pool.toml"))
    here = open_pool(read_pool_file(tmp_path / "here/pool.toml"))
    uniform = TruthRun(Mixture.uniform(there.names), there.config.recipe)
    model = snapshot(train_to_mixture(here, uniform.mixture))["model.safetensors"]
    assert snapshot(folder_of(there, uniform))["model.safetensors"] == model
    records = [read_record(one, CheckpointManifest) for one in (there.folder / "trained").glob("*/manifest.json")]
    assert len(records) == 6
    charged = run_cost(read_study_file(root / "study.toml")).commands["fidelity"].processor_seconds
    assert charged > sum(one.processor_seconds or 0.0 for one in records), "the command's ledger has the cluster's work"
    before = snapshot(root / "pools")
    again = mixscout(*command)
    assert json.loads(again.out) == json.loads(answer.out) and snapshot(root / "pools") == before


class SeveralMachines(OneByOne):
    """An engine that says that it reaches further."""

    machines = 2


def test_a_sqlite_file_is_refused_where_there_are_several_machines(root: Path) -> None:
    with pytest.raises(
        ConfigError, match="the cluster has 2 machines, and .*mixscout.db is a SQLite file.*postgresql://"
    ):
        run_workers(root / "study.toml", Advancing.of_search("tiny", 5), SeveralMachines())
