"""GPUs of this machine, and the host's memory that they copy from.

GPUs are found in milliseconds without torch: NVML lists them and starts nothing on them.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pool.engines.resources import NO_DEVICE
from pool.errors import ConfigError
from pool.progress import say

if TYPE_CHECKING:
    import torch

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


_COMPLETE = b"complete"
_FOR_EACH_GPU = 1
"""cudaHostRegisterPortable: every GPU of the process copies from the pages by itself."""


class SharedPages:
    """Pages of the host's memory that this user's processes share by a name, registered with a GPU if there is one.

    The first process fills them, under a lock of its caller; they count once it calls `complete`. The kernel frees them
    after the last process, however processes end. Not rounded up, unlike PyTorch's pinned memory. Linux only.

    is_new: whether they are to be filled
    bytes_of: the bytes, (nbytes,)
    """

    def __init__(self, name: str, nbytes: int) -> None:
        import torch

        there = _pages_of(name)
        self.is_new = there is None
        self._pages = _new_pages(name, nbytes) if there is None else there
        self.bytes_of = torch.frombuffer(self._pages, dtype=torch.uint8, count=nbytes)
        if torch.cuda.is_available():
            self._register(torch.cuda.cudart())  # type: ignore[no-untyped-call]

    @staticmethod
    def exist(name: str) -> bool:
        """Tell whether complete pages are there."""
        return _pages_of(name) is not None

    def complete(self) -> None:
        """Let other processes find the pages."""
        self._pages[-len(_COMPLETE) :] = _COMPLETE

    def _register(self, cuda: Any) -> None:
        """Have the GPU copy from the pages by itself; where that is refused, copies are slower and as right."""
        place = self.bytes_of.data_ptr()
        if int(cuda.cudaHostRegister(place, self.bytes_of.nbytes, _FOR_EACH_GPU)) == 0:
            weakref.finalize(self, cuda.cudaHostUnregister, place).atexit = False
        else:
            say("CUDA refuses to register the host's memory: streamed members are copied more slowly")


def _pages_of(name: str) -> mmap.mmap | None:
    """Find pages among the open files of this user's processes, which /proc lists; None unless they are complete."""
    for place in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # of another user, or closed meanwhile
            if str(place.readlink()) == f"/memfd:{_label(name)} (deleted)":
                with place.open("r+b") as opened:
                    pages = mmap.mmap(opened.fileno(), 0)
                if pages[-len(_COMPLETE) :] == _COMPLETE:
                    return pages
    return None


def _new_pages(name: str, nbytes: int) -> mmap.mmap:
    opened = os.memfd_create(_label(name))
    try:
        os.ftruncate(opened, nbytes + len(_COMPLETE))
        return mmap.mmap(opened, 0)  # keeps a descriptor of its own, by which others find the pages
    finally:
        os.close(opened)


def _label(name: str) -> str:
    return f"mixscout-{name}"


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Keep this user's other processes on this machine from the same block meanwhile."""
    from filelock import FileLock  # slow to load

    user = os.getuid() if hasattr(os, "getuid") else "user"
    with FileLock(Path(tempfile.gettempdir()) / f"mixscout-{user}-{what}.lock"):
        yield


class InFile(Protocol):
    """An array (rows, columns) in a file."""

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a part of a row (n,) as a view."""

    def done(self, number: int, part: slice) -> None:
        """Let go of a part of a row after reading."""


class ReadAhead:
    """An array of a file, read to a GPU through two pinned buffers.

    The host reads the next part while the GPU takes the last one and computes with it.
    """

    nbytes = device_nbytes = 0

    def __init__(self, array: InFile, device: torch.device) -> None:
        self._array, self._device = array, device
        self._buffers: list[torch.Tensor | None] = [None, None]
        self._taken: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def whole(self) -> torch.Tensor | None:
        return None

    def done(self, number: int, part: slice) -> None:
        self._array.done(number, part)

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a copy of a part of a row (n,) on the device."""
        import torch

        self._turn, on_gpu = 1 - self._turn, self._device.type == "cuda"
        if (taken := self._taken[self._turn]) is not None:
            taken.synchronize()  # the copy before the last is over
        values, buffer = self._array.row(number, part), self._buffers[self._turn]
        if buffer is None or buffer.nbytes < values.nbytes:
            self._buffers[self._turn] = buffer = torch.empty(values.nbytes, dtype=torch.uint8, pin_memory=on_gpu)
        held = buffer[: values.nbytes].view(values.dtype)
        held.copy_(values)
        found = held.to(self._device, non_blocking=True, copy=True)
        if on_gpu:
            self._taken[self._turn] = taken = torch.cuda.Event()  # type: ignore[no-untyped-call]
            taken.record(torch.cuda.current_stream(self._device))  # of the GPU that reads, which may be another one
        return found
