"""`HeldMembers`: what a merge needs of a pool's members, whatever form they have and wherever they lie.

`Form`: how members become arrays, and arrays held members. One file for each, in the same order of parts.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from objectives.merging.members.arrays import Shape, StoredArray

Weights = npt.NDArray[np.float64]

DECODED_AT_ONCE = 2**23
"""Values of all members together that a block decodes, where decoding makes a copy."""


class HeldMembers(Protocol):
    """K members of P values each; gaps between tensors are zero, or left as they are."""

    count: int
    nbytes: int
    """Bytes in memory, on the device and in the host together; pages of mapped files are not among them."""
    device_nbytes: int
    """Those of them on the device that merges."""

    def sum(self, weights: Weights, out: torch.Tensor) -> None:
        """Write sum_k w_k theta_k into `out` (P,), for any weights (K,). Members of weight zero are not read."""

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield parts of (P,) and the members' values there (K, n), decoded; valid until the next one is asked for.

        Parts cover every tensor. `most_values` is the largest n, but that a row of a matrix may be longer.
        """


def sum_many(members: HeldMembers, weights: Weights, like: torch.Tensor) -> torch.Tensor:
    """Return N merges (N, P) by weights (N, K), in the dtype and on the device of `like`; members are read once."""
    by_row = torch.tensor(weights, dtype=like.dtype, device=like.device)
    merged: torch.Tensor | None = None
    for part, values in members.blocks():
        if values.shape[1] == like.numel():
            return by_row @ values
        if merged is None:
            merged = torch.zeros(len(weights), like.numel(), dtype=like.dtype, device=like.device)
        merged[:, part] = by_row @ values
    assert merged is not None, "a model has parameters"
    return merged


def inner(members: HeldMembers, gradient: torch.Tensor) -> Weights:
    """Return the inner products (K,) of every member with a gradient (P,); blocks are added in float64."""
    total = torch.zeros(members.count, dtype=torch.float64, device=gradient.device)
    for part, values in members.blocks():
        total += torch.mv(values, gradient[part]).double()
    found: Weights = total.cpu().numpy()
    return found


SUMMED_AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
"""Values of one member added at a time: on a CPU so few that decoded ones and their sum stay in the cache."""


class Form(Protocol):
    """One way of keeping the values of K members, in arrays that can lie anywhere."""

    @property
    def digest_parts(self) -> Mapping[str, object]:
        """What decides the arrays, besides the members and the seed, in JSON types."""

    def shapes(self) -> Mapping[str, Shape]:
        """Give the arrays there will be."""

    def encode(self, members: Iterable[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the next row of one array after another, from members (P,), which are valid one at a time."""

    def held(self, arrays: Mapping[str, StoredArray]) -> HeldMembers:
        """Make members of the arrays."""


def parts(size: int, most_values: int) -> Iterator[slice]:
    """Cut (size,) into parts of at most so many values."""
    for start in range(0, size, most_values):
        yield slice(start, min(start + most_values, size))


def together(count: int, rows: Iterator[torch.Tensor]) -> torch.Tensor:
    """Return decoded rows (...) as one block (count, ...): one row at a time is there twice."""
    first = next(rows)
    block = first.new_empty(count, *first.shape)
    block[0] = first
    for number, row in enumerate(rows, start=1):
        block[number] = row
    return block


def used(weights: Iterable[float]) -> list[tuple[int, float]]:
    """Number the weights and leave out zeros: rows of weight zero are not read."""
    return [(row, float(weight)) for row, weight in enumerate(weights) if weight != 0]
