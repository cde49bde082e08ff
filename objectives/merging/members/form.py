"""Members that can be summed, the forms that encode them, and the flat layout of a model's tensors.

Every form has a file: whole, steps, pruned.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel

from objectives.held_out import Floats
from objectives.merging.members.arrays import Rows, Shape, StoredArray
from pool.checkpoints.checkpoint import parameters_of

DECODED_AT_ONCE = 2**23
"""Values of all members together in a block whose decoding makes a copy."""
SUMMED_AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
"""Values of one member added at a time: on a CPU so few that they and their sum stay in the cache."""
MULTIPLIED_AT_ONCE = 2**31 - 1
"""Values in a matrix, and between its rows, in a product on a GPU: cuBLAS is not safe beyond."""

_ALIGNMENT_ELEMENTS = 16
"""Each tensor starts on a 64-byte boundary, as a loaded one does: kernels then add in the same order."""


class Summing(Protocol):
    """Sums of members where these lie, without decoded copies."""

    def sum(self, weights: Floats, out: torch.Tensor) -> None:
        """Write sum_k w_k theta_k into `out` (P,)."""

    def inner(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return <gradient, theta_k> (K,) in float64, of a gradient (P,)."""


class HeldMembers(Protocol):
    """K members of P values each; gaps between tensors are zero, or left as they are.

    nbytes: bytes in memory, on device and host; pages of mapped files do not count
    device_nbytes: bytes of them on the device that merges
    kernel: the sums of members that lie on a GPU, in float32; None elsewhere
    """

    count: int
    nbytes: int
    device_nbytes: int
    kernel: Summing | None

    def sum(self, weights: Floats, out: torch.Tensor) -> None:
        """Write sum_k w_k theta_k into `out` (P,), for any weights (K,). Members of weight zero are not read."""

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield parts of (P,) and the members' decoded values there (K, n), valid until the next block.

        Parts cover every tensor. n is at most `most_values`, or one longer row of a matrix.
        """


class Form(Protocol):
    """One way of keeping the values of K members, in arrays of any place."""

    @property
    def digest_parts(self) -> Mapping[str, object]:
        """Everything that decides the arrays besides members and seed, in JSON types."""

    def shapes(self) -> Mapping[str, Shape]:
        """Return the shapes of the arrays."""

    def begin(self) -> Rows:
        """Yield the rows that come before those of members."""

    def rows_of(self, member: torch.Tensor) -> Rows:
        """Yield the next member's (P,) rows."""

    def held(self, arrays: Mapping[str, StoredArray]) -> HeldMembers:
        """Make members of the arrays."""


def encoded(form: Form, members: Iterable[torch.Tensor]) -> Rows:
    """Yield the rows of a form's arrays, from members (P,) that are valid one at a time."""
    yield from form.begin()
    for member in members:
        yield from form.rows_of(member)


def sum_many(members: HeldMembers, weights: Floats, like: torch.Tensor) -> torch.Tensor:
    """Return N merges (N, P) for weights (N, K), in dtype and device of `like`; members are read once."""
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


def inner(members: HeldMembers, gradient: torch.Tensor) -> Floats:
    """Return the inner products (K,) of members and a gradient (P,); blocks are added in float64."""
    if members.kernel is not None:
        return members.kernel.inner(gradient).cpu().numpy()
    total = torch.zeros(members.count, dtype=torch.float64, device=gradient.device)
    for part, values in members.blocks():
        total += torch.mv(values, gradient[part]).double()
    found: Floats = total.cpu().numpy()
    return found


def parts(size: int, most_values: int) -> Iterator[slice]:
    """Cut (size,) into parts of at most `most_values`."""
    for start in range(0, size, most_values):
        yield slice(start, min(start + most_values, size))


def together(count: int, rows: Iterator[torch.Tensor]) -> torch.Tensor:
    """Return decoded rows (...) as one block (count, ...)."""
    first = next(rows)
    block = first.new_empty(count, *first.shape)
    block[0] = first
    for number, row in enumerate(rows, start=1):
        block[number] = row
    return block


def used(weights: Iterable[float]) -> list[tuple[int, float]]:
    """Number the weights and leave out zeros."""
    return [(row, float(weight)) for row, weight in enumerate(weights) if weight != 0]


@dataclass(frozen=True)
class Matrix:
    """One tensor as rows of `width` values, with its part of the buffer and its first row among all rows.

    A vector is one row; leading dimensions are rows.
    """

    part: slice
    width: int
    first_row: int

    @property
    def rows(self) -> int:
        return int(self.part.stop - self.part.start) // self.width


@dataclass(frozen=True)
class Piece:
    """Whole rows of one matrix: part of the buffer, numbers among all rows, width."""

    part: slice
    rows: slice
    width: int

    @property
    def values(self) -> int:
        return int(self.part.stop - self.part.start)


@dataclass(frozen=True)
class FlatLayout:
    """Tensors by name in a flat buffer of `size` values (P), gaps included, with `rows` rows in all (R)."""

    matrices: dict[str, Matrix]
    size: int
    rows: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "FlatLayout":
        """Lay out a model's parameters one after the other; tied parameters count once."""
        return cls.of_tensors(parameters_of(model))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> "FlatLayout":
        matrices: dict[str, Matrix] = {}
        start = row = 0
        for name, tensor in tensors.items():
            width = max(1, int(tensor.shape[-1]) if tensor.dim() else 1)
            matrices[name] = Matrix(slice(start, start + tensor.numel()), width, row)
            row += matrices[name].rows
            start = -(-(start + tensor.numel()) // _ALIGNMENT_ELEMENTS) * _ALIGNMENT_ELEMENTS
        return cls(matrices, start, row)

    def places(self) -> dict[str, list[int]]:
        """Return start, rows and width of each tensor."""
        return {name: [matrix.part.start, matrix.rows, matrix.width] for name, matrix in self.matrices.items()}

    def pieces(self, most_values: int) -> Iterator[Piece]:
        """Cut every matrix into pieces of at most `most_values`, or of one longer row. Gaps are in no piece."""
        for matrix in self.matrices.values():
            at_once = max(1, most_values // matrix.width)
            for first in range(0, matrix.rows, at_once):
                last = min(first + at_once, matrix.rows)
                start, stop = (matrix.part.start + row * matrix.width for row in (first, last))
                rows = slice(matrix.first_row + first, matrix.first_row + last)
                yield Piece(slice(start, stop), rows, matrix.width)
