"""GPUs of this machine, found in milliseconds without torch: NVML lists them and starts nothing on them."""

import ctypes
import itertools
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pool.engines.resources import NO_DEVICE
from pool.errors import ConfigError

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_VARIABLE = "CUDA_VISIBLE_DEVICES"
_UUID_BYTES = 96
"""NVML_DEVICE_UUID_V2_BUFFER_SIZE of nvml.h."""
_AMD = Path("/dev/kfd")


def parse_devices(text: str | None) -> tuple[str, ...]:
    """Read `0,1` or `cpu` as CUDA_VISIBLE_DEVICES would name them: numbers count the GPUs that it shows already.

    Under a scheduler's mask 4,5 the devices 0,1 are 4 and 5. Raises `ConfigError`, also for a GPU that this machine
    certainly lacks, or that the mask hides.
    """
    devices = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    wrong = [device for device in devices if not _DEVICE.fullmatch(device)]
    if wrong:
        raise ConfigError(f"--devices {text!r} is no list of devices; write 0,1 for two GPUs, or cpu")
    wanted = [device for device in devices if device != NO_DEVICE]
    there, mask = known_gpus() if wanted else None, _mask()
    if there != () and mask is not None:
        return tuple(_unmasked(device, mask, text) if device.isdecimal() else device for device in devices)
    missing = [device for device in wanted if there is not None and not _is_among(device, there)]
    if missing:
        has = f"GPUs 0 to {len(there) - 1}" if there else "no GPU that PyTorch can use"
        raise _no_device(text, missing[0], f"this machine has {has}")
    return devices


def _mask() -> tuple[str, ...] | None:
    """Read CUDA_VISIBLE_DEVICES: the GPUs to be seen, in order, up to the first that is none; None without it."""
    given = os.environ.get(_VARIABLE)
    if given is None:
        return None
    return tuple(itertools.takewhile(_DEVICE.fullmatch, (part.strip() for part in given.split(","))))


def _unmasked(number: str, mask: tuple[str, ...], text: str | None) -> str:
    if int(number) >= len(mask):
        raise _no_device(text, number, f"{_VARIABLE} shows {','.join(mask) or 'none'}, counted from 0")
    return mask[int(number)]


def _no_device(text: str | None, device: str, why: str) -> ConfigError:
    return ConfigError(
        f"--devices {text!r}: there is no device {device!r}, as {why}; write cpu for none, or leave --devices out"
    )


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

    if not torch.cuda.is_available():
        return ()
    return _mask() or tuple(map(str, range(torch.cuda.device_count())))
