"""Arrays in files beside the pool, mapped into memory: written once, verified at every opening, removable at any time.

The checkpoints themselves are not mapped: what their files call a tensor, and how, is the libraries' business, and
forms other than float32 are not in them.
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from objectives.merging.members.arrays import InMemory, OnDisk, Shape, StoredArray
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.records import Record, read_record, write_record
from pool.files.whole import new_folder
from pool.progress import say

RECORD = "packed.json"
_CODED = {torch.bfloat16: "int16"}
"""Dtypes that numpy has not, as one of the same width."""


class PackedRecord(Record):
    """Digest of every file; written last."""

    files: dict[str, str]


def mapped(
    shapes: Mapping[str, Shape],
    rows: Callable[[], Iterator[tuple[str, torch.Tensor]]],
    device: torch.device,
    folder: Path,
) -> dict[str, StoredArray]:
    """Map the arrays in a folder, which is named for what they hold, after filling it where it is not there or damaged.

    Raises `PoolError` when it cannot be written.
    """
    try:
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
    return {name: _opened(folder / f"{name}.npy", shape, device) for name, shape in shapes.items()}


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


def _write(shapes: Mapping[str, Shape], rows: Iterator[tuple[str, torch.Tensor]], folder: Path) -> None:
    """Append rows to a file each, so that no array is ever in memory."""
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
