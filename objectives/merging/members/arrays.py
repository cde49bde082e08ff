"""Arrays of members in three places: the device's memory, the host's, and mapped files beside the pool.

Mapped files are verified at every opening, and removable at any time. Checkpoints themselves are not mapped: libraries
rename their tensors, and their only form is float32.
"""

import errno
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock

from pool.checkpoints.manifest import CONFIG, WEIGHTS, CheckpointManifest
from pool.engines.devices import ReadAhead, SharedPages, one_at_a_time
from pool.errors import PoolError
from pool.files.digests import digest_file, digest_json, short
from pool.files.records import MANIFEST, Record, read_record, write_record
from pool.files.whole import may_write, new_folder
from pool.progress import say

RECORD = "packed.json"
CPU = torch.device("cpu")
_ALIGNMENT = 64
_CODED = {torch.bfloat16: "int16"}
"""Numpy's dtype of the same width for a dtype that numpy lacks."""

Rows = Iterator[tuple[str, torch.Tensor]]
"""The next row of one array after another, by name."""


@dataclass(frozen=True)
class Shape:
    """A future array (rows, columns) of a dtype. A `small` array lies on the device in any place."""

    rows: int
    columns: int
    dtype: torch.dtype
    small: bool = False

    @property
    def nbytes(self) -> int:
        return self.rows * self.columns * self.dtype.itemsize


class StoredArray(Protocol):
    """An array (rows, columns), read a part of a row at a time.

    nbytes: bytes in memory
    device_nbytes: bytes of them on the device
    """

    nbytes: int
    device_nbytes: int

    def whole(self) -> torch.Tensor | None:
        """Return the array where it lies on the device, else None."""

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a part of a row (n,) on the device, as a view where possible."""

    def done(self, number: int, part: slice) -> None:
        """Let go of a part of a row after reading."""


class InMemory:
    """An array in the device's memory, or in the host's and copied to the device for reading."""

    def __init__(self, tensor: torch.Tensor, device: torch.device) -> None:
        self._tensor, self._device = tensor, device
        self.nbytes = tensor.nbytes
        self.device_nbytes = tensor.nbytes if tensor.device.type == device.type else 0

    def whole(self) -> torch.Tensor | None:
        return self._tensor if self._tensor.device.type == self._device.type else None

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a view, or an asynchronous copy from pinned memory."""
        return self._tensor[number, part].to(self._device, non_blocking=True)

    def done(self, number: int, part: slice) -> None:
        pass


class OnDisk:
    """An array mapped from a .npy file. Pages are given back after reading, so memory stays at one part."""

    nbytes = 0
    device_nbytes = 0

    def __init__(self, mapped: np.memmap, dtype: torch.dtype, device: torch.device) -> None:
        self._mapped, self._device = mapped, device
        self._pages: mmap.mmap = mapped._mmap  # type: ignore[attr-defined]
        array: npt.NDArray[np.generic] = mapped.view(np.ndarray)
        self._tensor = torch.from_numpy(array).view(dtype)

    def whole(self) -> torch.Tensor | None:
        return None

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a view of the file on a CPU, and a copy on another device."""
        return self._tensor[number, part].to(self._device)

    def done(self, number: int, part: slice) -> None:
        columns, size = self._tensor.shape[1], self._tensor.element_size()
        place = self._mapped.offset + number * columns * size
        start = (place + part.start * size) // mmap.PAGESIZE * mmap.PAGESIZE
        self._pages.madvise(mmap.MADV_DONTNEED, start, place + part.stop * size - start)


def filled(
    shapes: Mapping[str, Shape], rows: Rows, devices: Mapping[str, torch.device], *, streamed: bool
) -> dict[str, StoredArray]:
    """Fill arrays in the memory of their devices; `streamed` arrays for a GPU lie in the host's, pinned."""
    tensors = {name: _empty(shape, devices[name], streamed and not shape.small) for name, shape in shapes.items()}
    done = dict.fromkeys(shapes, 0)
    for name, row in rows:
        tensors[name][done[name]].copy_(row)
        done[name] += 1
    return {name: InMemory(tensor, devices[name]) for name, tensor in tensors.items()}


class Streamed(InMemory):
    """An array in pages of the host that processes share, copied to a GPU for reading."""

    def __init__(self, tensor: torch.Tensor, device: torch.device, pages: SharedPages) -> None:
        super().__init__(tensor, device)
        self._pages = pages  # registered with the GPU as long as the array lives


def shared(
    name: str, shapes: Mapping[str, Shape], rows: Callable[[], Rows], devices: Mapping[str, torch.device]
) -> dict[str, StoredArray]:
    """Hold arrays in shared pages, filled by the first process that asks; `small` arrays lie on their devices."""
    ends = [0, *accumulate(-(-shape.nbytes // _ALIGNMENT) * _ALIGNMENT for shape in shapes.values())]
    with one_at_a_time(name):
        pages = SharedPages(name, ends[-1])
        tensors = {
            one: pages.bytes_of[start : start + shape.nbytes].view(shape.dtype).view(shape.rows, shape.columns)
            for start, (one, shape) in zip(ends, shapes.items(), strict=False)
        }
        if pages.is_new:
            done = dict.fromkeys(shapes, 0)
            for one, row in rows():
                tensors[one][done[one]].copy_(row)
                done[one] += 1
            pages.complete()
    small = {one: to_read(InMemory(tensors[one], CPU), devices[one]) for one, shape in shapes.items() if shape.small}
    return {one: small.get(one) or Streamed(tensor, devices[one], pages) for one, tensor in tensors.items()}


def to_read(array: StoredArray, device: torch.device) -> StoredArray:
    """Let a GPU read an array of a folder; `small` ones, in memory, go to the GPU."""
    if device.type == "cpu":
        return array
    there = array.whole()
    return ReadAhead(array, device) if there is None else InMemory(there.to(device), device)


def mapped(
    shapes: Mapping[str, Shape], rows: Callable[[], Rows], device: torch.device, folder: Path
) -> dict[str, StoredArray]:
    """Map the arrays of a folder; first write them if the folder is missing or damaged.

    Beside a pool that may only be read they are written for this process alone. Raises `PoolError`.
    """
    try:
        only_read = not may_write(folder) and not folder.parent.is_file()  # a file in the way is told by the write
        if only_read and not _is_whole(folder, shapes):
            with tempfile.TemporaryDirectory(prefix="mixscout-") as name:  # mapped files stay readable without a name
                return mapped(shapes, rows, device, Path(name) / folder.name)
        if only_read:
            return _all_opened(folder, shapes, device)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _is_whole(folder, shapes):
                _write(shapes, rows(), folder)
    except OSError as error:
        gigabytes = sum(shape.nbytes for shape in shapes.values()) / 1e9
        raise PoolError(
            f"{folder}: cannot write {gigabytes:.2f} GB of packed members there: {error.strerror}; make room, or set "
            '[objective] held = "resident"'
        ) from None
    return _all_opened(folder, shapes, device)


def packed_name(
    form: Mapping[str, object],
    members: Iterable[Sequence[Path]],
    seed: Path | None,
    places: Mapping[str, Sequence[int]],
) -> str:
    """Name a folder by everything that decides its arrays, so that no other members are taken for these.

    places: start, rows and width of each tensor
    """
    contents = [[_content(folder) for folder in several] for several in members]
    start = None if seed is None else _content(seed)
    return short(digest_json({**form, "members": contents, "seed": start, "places": places}))


def _content(folder: Path) -> list[str]:
    """Return the digests of weights and configuration, from the verified manifest where there is one."""
    if (folder / MANIFEST).is_file():
        manifest = read_record(folder / MANIFEST, CheckpointManifest)
        return [manifest.weights_digest, manifest.config_digest]
    return [digest_file(folder / WEIGHTS), digest_file(folder / CONFIG)]


def _all_opened(folder: Path, shapes: Mapping[str, Shape], device: torch.device) -> dict[str, StoredArray]:
    return {name: _opened(folder / f"{name}.npy", shape, device) for name, shape in shapes.items()}


class PackedRecord(Record):
    """Digest of every file; written last."""

    files: dict[str, str]


def _empty(shape: Shape, device: torch.device, streamed: bool) -> torch.Tensor:
    pinned = streamed and device.type == "cuda"
    place = CPU if pinned else device
    return torch.empty(shape.rows, shape.columns, dtype=shape.dtype, device=place, pin_memory=pinned)


def _is_whole(folder: Path, shapes: Mapping[str, Shape]) -> bool:
    if not (folder / RECORD).is_file():
        return False
    try:
        recorded = read_record(folder / RECORD, PackedRecord).files
        if recorded == {name: digest_file(folder / f"{name}.npy") for name in shapes}:
            return True
    except (OSError, PoolError):
        pass
    say(f"{folder} is damaged: its members are packed again")
    return False


def _write(shapes: Mapping[str, Shape], rows: Rows, folder: Path) -> None:
    """Append every row to its array's file, so that no array is ever in memory.

    Not through `open_memmap`: a full disk would kill the process (SIGBUS) instead of raising `OSError`.
    """
    needed, free = sum(shape.nbytes for shape in shapes.values()), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB are free")
    say(f"packing members into {folder}, {needed / 1e9:.2f} GB")
    with new_folder(folder) as new:
        with ExitStack() as opened:
            files = {name: opened.enter_context((new / f"{name}.npy").open("wb")) for name in shapes}
            for name, shape in shapes.items():
                header = {"descr": _numpy(shape).str, "fortran_order": False, "shape": (shape.rows, shape.columns)}
                np.lib.format.write_array_header_1_0(files[name], header)
            for name, row in rows:
                files[name].write(row.contiguous().view(torch.uint8).cpu().numpy().data)
        digests = {name: digest_file(new / f"{name}.npy") for name in shapes}
        write_record(new / RECORD, PackedRecord(files=digests))


def _opened(path: Path, shape: Shape, device: torch.device) -> StoredArray:
    if shape.small:
        array = torch.from_numpy(np.load(path, allow_pickle=False)).view(shape.dtype)
        return InMemory(array.to(device), device)
    return OnDisk(np.load(path, mmap_mode="c", allow_pickle=False), shape.dtype, device)


def _numpy(shape: Shape) -> np.dtype:
    return np.dtype(_CODED.get(shape.dtype, str(shape.dtype).removeprefix("torch.")))
