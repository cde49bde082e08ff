"""Connecting to a Ray cluster: one that runs, or one of this machine's own for as long as a command takes.

Whoever reaches a cluster's ports can run code in it, unless it asks for a token: `ray start` makes it do so where
`ray get-auth-token` made one. What is started here does, listens on loopback only, and has no dashboard.

Room on the nodes of a Ray cluster: counted when a command connects, watched and waited for while it runs.
"""

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pool.engines.resources import Resources, room_of
from pool.errors import ConfigError, EngineError, first_line
from pool.progress import say

LOCAL, AUTO = "local", "auto"
_OF_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_SEVERAL_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Read when Ray is imported. While it is on, as it is on Linux, Ray takes loopback for a wish to be reached from
elsewhere, and listens on every address.
"""
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")
_REACH_SECONDS = 5.0


def check_address(address: str) -> None:
    """Raise `ConfigError` for what is neither `auto`, `local` nor HOST:PORT."""
    if address not in (LOCAL, AUTO) and not _HOST_AND_PORT.fullmatch(address):
        raise ConfigError(
            f"--address {address!r} is no Ray cluster's; write HOST:PORT of its head node, auto for the cluster that "
            "this machine belongs to, or local for one of this machine alone"
        )


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster while the block runs; a connection that was there is used, and stays.

    Raises `EngineError` when Ray is not installed, or the cluster is out of reach or of other versions.
    """
    if address == LOCAL:
        os.environ.setdefault(_SEVERAL_MACHINES, "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # an extra
    except ImportError:
        raise EngineError("--engine ray needs Ray: pip install 'mixscout[cluster]', on every machine") from None
    if ray.is_initialized():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        # Ray prints twenty lines to stdout for every process that dies; `dispatch` says it in one
        yield from _connected(address)


def _connected(address: str) -> Iterator[None]:
    import ray

    try:
        _connect(address)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise EngineError(
            f"no Ray cluster could be reached at {address}: {first_line(error).rstrip('.')}; start one with `ray start "
            "--head` on the first machine and `ray start --address=HOST:PORT` on the others, and run this command on "
            "one of them (with RAY_AUTH_MODE=token where the cluster asks for a token), or give --address local"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    if address == LOCAL:
        ray.init(
            address=LOCAL,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
        return
    found = _HOST_AND_PORT.fullmatch(address)
    if found:  # Ray itself tries for minutes
        host = found[1].strip("[]")
        if host in _OF_THIS_MACHINE:  # as Ray does
            host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        socket.create_connection((host, int(found[2])), timeout=_REACH_SECONDS).close()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


WAIT_SECONDS = 600.0
"""How long jobs wait while no node is large enough for one: nodes come back, autoscalers take minutes to add one."""


def living_nodes() -> list[dict[str, Any]]:
    """List the cluster's nodes, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def room_for(resources: Resources) -> int:
    """Count the jobs that the cluster has room for, were it idle."""
    return sum(room_of(node["Resources"], resources) for node in living_nodes())


def largest() -> str:
    """Say the most CPUs, and the most GPUs, that one node has."""
    resources = [node["Resources"] for node in living_nodes()]
    cpus, gpus = (max((one.get(name, 0) for one in resources), default=0) for name in ("CPU", "GPU"))
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


class Patience:
    """Waits for room while there is none for a single job, but not for ever."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._without: float | None = None

    def check(self) -> None:
        """Say when a wait begins. Raises `EngineError` when it was too long."""
        if room_for(self._resources):
            self._without = None
        elif self._without is None:
            self._without = time.monotonic()
            say(
                f"no node of the Ray cluster has {self._resources} any more, which each job takes; the largest of "
                f"{len(living_nodes())} has {largest()}: waiting up to {WAIT_SECONDS:g} seconds for one that has"
            )
        elif time.monotonic() - self._without > WAIT_SECONDS:
            raise EngineError(
                f"no node of the Ray cluster had {self._resources} for {WAIT_SECONDS:g} seconds; the largest has "
                f"{largest()}: start one again, or give other --num-cpus and --num-gpus, and run the same command "
                "again; what was finished is kept"
            )
