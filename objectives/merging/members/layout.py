"""Where each tensor of a model lies in one flat buffer (P,), and the pieces in which such a buffer is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from pool.checkpoints.checkpoint import parameters_of

_ALIGNMENT_ELEMENTS = 16
"""Each tensor starts on a 64-byte boundary, as a loaded one does: kernels then add in the same order."""


@dataclass(frozen=True)
class Matrix:
    """One tensor as a matrix: `part` of the buffer, `width` values a row, the number of its `first_row` of all rows.

    A vector is one row; leading dimensions are rows.
    """

    part: slice
    width: int
    first_row: int

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.part.stop - self.part.start) // self.width


@dataclass(frozen=True)
class Piece:
    """Whole rows of one matrix: `part` of the buffer, the `rows` of all rows, and their width."""

    part: slice
    rows: slice
    width: int

    @property
    def values(self) -> int:
        """How many values it has."""
        return int(self.part.stop - self.part.start)


@dataclass(frozen=True)
class FlatLayout:
    """Tensors by name in a flat buffer of `size` values (P), gaps between them included; `rows` in all (R)."""

    matrices: dict[str, Matrix]
    size: int
    rows: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "FlatLayout":
        """Lay out a model's parameters one after the other, tied ones once."""
        matrices: dict[str, Matrix] = {}
        start = row = 0
        for name, tensor in parameters_of(model).items():
            width = max(1, int(tensor.shape[-1]) if tensor.dim() else 1)
            matrices[name] = Matrix(slice(start, start + tensor.numel()), width, row)
            row += matrices[name].rows
            start = _aligned(start + tensor.numel())
        return cls(matrices, start, row)

    def pieces(self, most_values: int) -> Iterator[Piece]:
        """Cut all matrices into pieces of at most so many values, but for rows that are longer. Gaps are in none."""
        for matrix in self.matrices.values():
            at_once = max(1, most_values // matrix.width)
            for first in range(0, matrix.rows, at_once):
                last = min(first + at_once, matrix.rows)
                start, stop = (matrix.part.start + row * matrix.width for row in (first, last))
                rows = slice(matrix.first_row + first, matrix.first_row + last)
                yield Piece(slice(start, stop), rows, matrix.width)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_ELEMENTS) * _ALIGNMENT_ELEMENTS
