"""`StoredArray`: one array of a pool's members, read by rows onto the device that merges, wherever it lies.

Arrays filled in memory: the device's, or the host's, which streams to the device while it merges.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Shape:
    """What an array will be: (rows, columns) of a dtype. A `small` one is kept on the device in any case."""

    rows: int
    columns: int
    dtype: torch.dtype
    small: bool = False

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.rows * self.columns * self.dtype.itemsize


class StoredArray(Protocol):
    """An array (rows, columns) that can be read a part of a row at a time."""

    nbytes: int
    """Bytes in memory."""
    device_nbytes: int
    """Those of them on the device."""

    def whole(self) -> torch.Tensor | None:
        """Return all of it where it lies on the device as it is; None elsewhere."""

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a part of a row (n,) on the device: a view where it lies there, or can be read there."""

    def done(self, number: int, part: slice) -> None:
        """Let go of a part of a row that was read."""


class InMemory:
    """An array in the device's memory, or in the host's and copied to the device when it is read."""

    def __init__(self, tensor: torch.Tensor, device: torch.device) -> None:
        self._tensor, self._device = tensor, device
        self.nbytes = tensor.nbytes
        self.device_nbytes = tensor.nbytes if tensor.device.type == device.type else 0

    def whole(self) -> torch.Tensor | None:
        """Return the tensor where it lies on the device."""
        return self._tensor if self._tensor.device.type == self._device.type else None

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a view, or a copy on its way to the device: pinned memory is not waited for."""
        return self._tensor[number, part].to(self._device, non_blocking=True)

    def done(self, number: int, part: slice) -> None:
        """Keep it: it is in memory in any case."""


class OnDisk:
    """An array mapped from a .npy file: what was read is given back at once, so that it never adds up.

    The operating system may keep the pages in its cache while memory is free; other processes share them there.
    """

    nbytes = 0
    device_nbytes = 0

    def __init__(self, mapped: np.memmap, dtype: torch.dtype, device: torch.device) -> None:
        self._mapped, self._device = mapped, device
        self._pages: mmap.mmap = mapped._mmap  # type: ignore[attr-defined]
        array: npt.NDArray[np.generic] = mapped.view(np.ndarray)
        self._tensor = torch.from_numpy(array).view(dtype)

    def whole(self) -> torch.Tensor | None:
        """Return nothing: all of it would be read."""
        return None

    def row(self, number: int, part: slice) -> torch.Tensor:
        """Return a view of the file on a CPU, and a copy on another device."""
        return self._tensor[number, part].to(self._device)

    def done(self, number: int, part: slice) -> None:
        """Give the pages of that part back; they are read again when they are asked for again."""
        columns, size = self._tensor.shape[1], self._tensor.element_size()
        place = self._mapped.offset + number * columns * size
        start = (place + part.start * size) // mmap.PAGESIZE * mmap.PAGESIZE
        self._pages.madvise(mmap.MADV_DONTNEED, start, place + part.stop * size - start)


def filled(
    shapes: Mapping[str, Shape], rows: Iterator[tuple[str, torch.Tensor]], device: torch.device, *, streamed: bool
) -> dict[str, StoredArray]:
    """Fill arrays with the rows of each, in their order; `streamed` ones lie in the host, but for small ones.

    Host memory is pinned where the device is a GPU: copies from it are asynchronous. On a CPU there is nowhere to
    stream to, and both are the same.
    """
    tensors = {name: _empty(shape, device, streamed and not shape.small) for name, shape in shapes.items()}
    done = dict.fromkeys(shapes, 0)
    for name, row in rows:
        tensors[name][done[name]].copy_(row)
        done[name] += 1
    assert all(done[name] == shape.rows for name, shape in shapes.items()), "a form yields every row"
    return {name: InMemory(tensor, device) for name, tensor in tensors.items()}


def _empty(shape: Shape, device: torch.device, streamed: bool) -> torch.Tensor:
    size = (shape.rows, shape.columns)
    if streamed and device.type == "cuda":
        return torch.empty(size, dtype=shape.dtype, pin_memory=True)
    return torch.empty(size, dtype=shape.dtype, device=device)
