"""Content digests: what lets a pool, an evaluation and a study know that they speak of the same thing.

All digests are SHA-256 in hexadecimal. JSON is dumped with sorted keys, so key order never matters.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt


def digest_json(value: object) -> str:
    """Digest any JSON-serialisable value, independent of key order.

    Raises `TypeError` for what JSON cannot hold and `ValueError` for NaN or infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_arrays(arrays: Iterable[npt.NDArray[np.generic]]) -> str:
    """Digest arrays with their shapes and dtypes."""
    outer = hashlib.sha256()
    for array in arrays:
        outer.update(f"{array.dtype.str}{array.shape}".encode())
        outer.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return outer.hexdigest()


def digest_file(path: Path) -> str:
    """Digest a file's bytes, streamed. Raises `OSError` when it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short(digest: str) -> str:
    """Shorten a digest for people: the first 12 hexadecimal digits."""
    return digest[:12]
