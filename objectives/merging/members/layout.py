"""The place of every tensor in one flat buffer (P,), and the pieces in which the buffer is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from pool.checkpoints.checkpoint import parameters_of

_ALIGNMENT_ELEMENTS = 16
"""Each tensor starts on a 64-byte boundary, as a loaded one does: kernels then add in the same order."""


@dataclass(frozen=True)
class Matrix:
    """One tensor as rows of `width` values; leading dimensions are rows, and a vector is one row.

    part: its part of the buffer
    first_row: the number of its first row among the rows of all tensors
    """

    part: slice
    width: int
    first_row: int

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return int(self.part.stop - self.part.start) // self.width


@dataclass(frozen=True)
class Piece:
    """Whole rows of one matrix: their part of the buffer, their numbers among all rows, their width."""

    part: slice
    rows: slice
    width: int

    @property
    def values(self) -> int:
        """The number of its values."""
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
        matrices: dict[str, Matrix] = {}
        start = row = 0
        for name, tensor in parameters_of(model).items():
            width = max(1, int(tensor.shape[-1]) if tensor.dim() else 1)
            matrices[name] = Matrix(slice(start, start + tensor.numel()), width, row)
            row += matrices[name].rows
            start = -(-(start + tensor.numel()) // _ALIGNMENT_ELEMENTS) * _ALIGNMENT_ELEMENTS
        return cls(matrices, start, row)

    def pieces(self, most_values: int) -> Iterator[Piece]:
        """Cut every matrix into pieces of at most `most_values`, or of one longer row. Gaps are in no piece."""
        for matrix in self.matrices.values():
            at_once = max(1, most_values // matrix.width)
            for first in range(0, matrix.rows, at_once):
                last = min(first + at_once, matrix.rows)
                start, stop = (matrix.part.start + row * matrix.width for row in (first, last))
                rows = slice(matrix.first_row + first, matrix.first_row + last)
                yield Piece(slice(start, stop), rows, matrix.width)
