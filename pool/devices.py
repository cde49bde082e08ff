"""One device a process: each training process claims one for its whole life, before CUDA starts in it."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

_CLAIMED: list[FileLock] = []
"""This process's claim; the operating system takes it back when the process ends, however that happens."""


def visible_devices() -> tuple[str, ...]:
    """Name the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES does; none without CUDA."""
    import torch  # seconds, which claiming a device need not take

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    return tuple(given.split(",")) if given else tuple(map(str, range(torch.cuda.device_count())))


def claim_device(devices: Sequence[str], claims: Path) -> str | None:
    """Make one of the devices the only one this process sees, and return it; None where there are none.

    The processes of a command share the folder `claims`. A device is shared only where there are more processes than
    devices. A process keeps the device that it claimed first.
    """
    if not devices:
        return None
    if not _CLAIMED:
        device, lock = _first_free(devices, claims)
        _CLAIMED.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    return os.environ["CUDA_VISIBLE_DEVICES"]


def _first_free(devices: Sequence[str], claims: Path) -> tuple[str, FileLock]:
    for sharing in itertools.count():
        for number, device in enumerate(devices):
            lock = FileLock(claims / f"{number}.{sharing}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return device, lock
    raise AssertionError("there is always another round")
