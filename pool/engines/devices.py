"""GPUs of this machine, found in milliseconds without torch: NVML lists them and starts nothing on them."""

import ctypes
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pool.engines.resources import NO_DEVICE
from pool.errors import ConfigError

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_UUID_BYTES = 96
"""NVML_DEVICE_UUID_V2_BUFFER_SIZE of nvml.h."""
_AMD = Path("/dev/kfd")


def parse_devices(text: str | None) -> tuple[str, ...]:
    """Read `0,1` or `cpu`. Raises `ConfigError`, also for a GPU that this machine certainly lacks."""
    devices = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    wrong = [device for device in devices if not _DEVICE.fullmatch(device)]
    if wrong:
        raise ConfigError(f"--devices {text!r} is no list of devices; write 0,1 for two GPUs, or cpu")
    wanted = [device for device in devices if device != NO_DEVICE]
    there = known_gpus() if wanted else None
    missing = [device for device in wanted if there is not None and not _is_among(device, there)]
    if missing:
        has = f"GPUs 0 to {len(there) - 1}" if there else "no GPU that PyTorch can use"
        raise ConfigError(
            f"--devices {text!r}: there is no device {missing[0]!r}, as this machine has {has}; write cpu for none, or "
            "leave --devices out"
        )
    return devices


def known_gpus() -> tuple[str, ...] | None:
    """Return the UUIDs of this machine's GPUs; None where only torch can tell."""
    if _torch_is_for_cpus():
        return ()
    if sys.platform != "linux":
        return None
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None if _AMD.exists() or _loads("libcuda.so.1") else ()
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        return _listed(nvml)
    finally:
        nvml.nvmlShutdown()


def _listed(nvml: ctypes.CDLL) -> tuple[str, ...] | None:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    found = []
    for number in range(count.value):
        handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(_UUID_BYTES)
        if nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)) != 0:
            return None
        if nvml.nvmlDeviceGetUUID(handle, name, _UUID_BYTES) != 0:
            return None
        found.append(name.value.decode("ascii", "replace"))
    return tuple(found)


def _is_among(device: str, gpus: tuple[str, ...]) -> bool:
    """Tell whether a number or the beginning of a UUID names one; a part of a GPU (MIG) may be on any."""
    if device.startswith("MIG-"):
        return bool(gpus)
    return int(device) < len(gpus) if device.isdecimal() else any(uuid.startswith(device) for uuid in gpus)


def _torch_is_for_cpus() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def visible_devices() -> tuple[str, ...]:
    """Name the CUDA devices of this process as CUDA_VISIBLE_DEVICES does; none without CUDA."""
    if known_gpus() == ():
        return ()
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    return tuple(given.split(",")) if given else tuple(map(str, range(torch.cuda.device_count())))
