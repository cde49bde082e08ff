"""An array in a .npy file that is written as its rows come: how many there are is known at the end."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np


@contextmanager
def rows_into(path: Path, dtype: type[np.generic], row: tuple[int, ...] = ()) -> Iterator[Callable[[bytes], object]]:
    """Yield `add(some)`, which appends the bytes of whole rows to an array (N, *row); its header is right afterwards.

    Raises `OSError`; the file then holds no row.
    """
    with path.open("wb") as stream:
        _write_header(stream, dtype, (0, *row))
        start = stream.tell()
        yield stream.write
        count = (stream.tell() - start) // (np.dtype(dtype).itemsize * math.prod(row))
        stream.seek(0)
        _write_header(stream, dtype, (count, *row))
        assert stream.tell() == start, "NumPy leaves room in the header for any length"


def _write_header(stream: BinaryIO, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
