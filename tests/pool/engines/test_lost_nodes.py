"""Jobs whose only fitting node is lost wait for another one, say so, and do not wait for ever."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jobs import Noted, begun_by
from ray_nodes import SMALL, ray_cluster

from pool.engines import ray_tasks as ray_room
from pool.engines.engine import Job
from pool.engines.ray_tasks import RayTasks, ray_tasks
from pool.engines.resources import Resources
from pool.errors import EngineError

LARGE = Resources(cpus=2, gpus=0)
WAITING = (
    "no node of the Ray cluster has 2 CPUs and 0 GPUs any more, which each job takes; the largest of 1 has 1 CPUs and "
    "0 GPUs: waiting up to {} seconds for one that has"
)


def test_jobs_whose_only_node_is_gone_wait_for_another_one_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    with ray_cluster({"num_cpus": 2}) as cluster, ray_tasks(cluster.address, 1, LARGE) as engine:
        nodes = [node for node in cluster.list_all_nodes() if not node.head]

        def lose_it() -> None:
            if nodes and begun_by(tmp_path, 2):
                cluster.remove_node(nodes.pop(), allow_graceful=False)

        monkeypatch.setattr(ray_room, "WAIT_SECONDS", 2.0)
        jobs = [Job("a", Noted(tmp_path, 1)), Job("b", Noted(tmp_path, 2, until="go"))]
        results = engine.run(jobs, watch=lose_it)
        assert next(results) == ("a", 1)
        with pytest.raises(EngineError, match="had 2 CPUs and 0 GPUs for 2 seconds; .*what was finished is kept"):
            next(results)
        said = capsys.readouterr().err
        assert "b: its node is gone; the job goes on" in said and said.count(WAITING.format(2)) == 1

        (tmp_path / "go").touch()
        monkeypatch.setattr(ray_room, "WAIT_SECONDS", 600.0)
        said = ""

        def bring_one() -> None:
            nonlocal said
            before, said = said, said + capsys.readouterr().err
            if "waiting" in said and "waiting" not in before:
                cluster.add_node(**SMALL, num_cpus=2)

        assert list(RayTasks(1, LARGE).run(jobs[1:], watch=bring_one)) == [("b", 2)]
        assert re.findall("no node of .*", said) == [WAITING.format(600)]
