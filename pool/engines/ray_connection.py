"""Connecting to a Ray cluster: one that runs, or one of this machine's own for as long as a command takes.

Whoever reaches a cluster's ports can run code in it, unless it asks for a token: `ray start` makes it do so where
`ray get-auth-token` made one. What is started here does, listens on loopback only, and has no dashboard.
"""

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from pool.errors import ConfigError, EngineError

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
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"no Ray cluster could be reached at {address}: {reason.rstrip('.')}; start one with `ray start --head` on "
            "the first machine and `ray start --address=HOST:PORT` on the others, and run this command on one of them "
            "(with RAY_AUTH_MODE=token where the cluster asks for a token), or give --address local"
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
