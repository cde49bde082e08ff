"""A real Ray cluster of several nodes on this machine, on loopback, with as little of everything as it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # read on import: else Ray leaves loopback
import ray
from import_path import IMPORT_PATH
from ray.cluster_utils import Cluster

SMALL = {"include_dashboard": False, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}

MASK = "CUDA_VISIBLE_DEVICES"


@contextmanager
def ray_cluster(*nodes: dict[str, int]) -> Iterator[Cluster]:
    """Run a cluster of a head of one CPU and other nodes, with this process's number of threads for all."""
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",  # or it would depend on whether this user has a token
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join([IMPORT_PATH, os.environ.get("PYTHONPATH", "")]),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    mask = os.environ.pop(MASK, None)  # or a node could not pretend to have GPUs
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 1})
    try:
        for node in nodes:
            cluster.add_node(**SMALL, **node)
        if mask is not None:
            os.environ[MASK] = mask
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def remove_node_of(cluster: Cluster, process: int) -> bool:
    """Kill the node on which a process works; False where that is the head, or none of the cluster's."""
    try:
        parents = {parent.pid for parent in psutil.Process(process).parents()}
    except psutil.NoSuchProcess:
        return False
    for node in cluster.list_all_nodes():
        if not node.head and node.all_processes["raylet"][0].process.pid in parents:
            cluster.remove_node(node, allow_graceful=False)
            return True
    return False
