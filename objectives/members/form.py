"""`Form`: how members become arrays, and arrays held members. One file for each, in the same order of parts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import torch

from objectives.members.arrays import Shape, Stored
from objectives.members.held import HeldMembers

VALUES_AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
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

    def held(self, arrays: Mapping[str, Stored]) -> HeldMembers:
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
