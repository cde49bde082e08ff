"""Members as steps from one reference, in eight-bit integers with one scale for every row of a matrix.

theta_k = r + tau_k, so sum_k w_k theta_k = (sum_k w_k) r + sum_k w_k tau_k for any weights. The reference r is the seed
after the same rounding, and tau_k = theta_k - r. So r costs one more row of bytes, and its rounding error vanishes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from objectives.held_out import Floats
from objectives.merging.members import kernel
from objectives.merging.members.arrays import Rows, Shape, StoredArray
from objectives.merging.members.form import DECODED_AT_ONCE, SUMMED_AT_ONCE, FlatLayout, Piece, Summing, used

LARGEST_CODE = 127
CODE_SCALE = torch.bfloat16
"""A scale that is rounded down by 2^-9 cuts its row's largest value by a quarter of a code at most."""


@dataclass(frozen=True)
class StepsForm:
    """K members as steps from a reference near `seed` (P,), which is not kept."""

    count: int
    layout: FlatLayout
    seed: torch.Tensor

    @property
    def digest_parts(self) -> Mapping[str, object]:
        return {"form": "int8"}

    def shapes(self) -> Mapping[str, Shape]:
        """Codes and scales, the reference before the members."""
        return {
            "codes": Shape(self.count + 1, self.layout.size, torch.int8),
            "scales": Shape(self.count + 1, self.layout.rows, CODE_SCALE, small=True),
        }

    def begin(self) -> Rows:
        """Encode the reference."""
        codes, scales = self._coded
        yield from (("codes", codes), ("scales", scales))

    def rows_of(self, member: torch.Tensor) -> Rows:
        """Encode a member's step from the reference."""
        codes, scales = quantised(member - self._reference, self.layout)
        yield from (("codes", codes), ("scales", scales))

    @cached_property
    def _coded(self) -> tuple[torch.Tensor, torch.Tensor]:
        return quantised(self.seed, self.layout)

    @cached_property
    def _reference(self) -> torch.Tensor:
        return dequantised(*self._coded, self.layout, self.seed.dtype)

    def held(self, arrays: Mapping[str, StoredArray]) -> "StepsMembers":
        return StepsMembers(self, arrays)


class StepsMembers:
    """Members in codes (1 + K, P) and scales (1 + K, R), decoded a piece at a time."""

    def __init__(self, form: StepsForm, arrays: Mapping[str, StoredArray]) -> None:
        self.count = form.count
        self._layout, self._computed = form.layout, form.seed.dtype
        self._codes = arrays["codes"]
        scales = arrays["scales"].whole()
        assert scales is not None, "small arrays are kept on the device"
        self._scales = scales
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self.device_nbytes = sum(array.device_nbytes for array in arrays.values())
        codes = self._codes.whole()
        self.kernel: Summing | None = None
        if kernel.usable(codes, self._computed):
            self.kernel = kernel.of_steps(codes, scales, form.layout)

    def sum(self, weights: Floats, out: torch.Tensor) -> None:
        """Sum code times scale times weight into `out` (P,), a piece of whole rows at a time, or by the kernel."""
        if self.kernel is not None:
            self.kernel.sum(weights, out)
            return
        rows = used([weights.sum(), *weights])
        if not rows:
            out.zero_()
            return
        chosen = [row for row, _ in rows]
        shares = torch.stack([self._scales[row].to(out.dtype) * weight for row, weight in rows])
        for piece in self._layout.pieces(SUMMED_AT_ONCE[out.device.type] // len(rows)):
            steps = self._decoded(chosen, piece, out.dtype).mul_(shares[:, piece.rows, None])
            torch.sum(steps, dim=0, out=out[piece.part].view(-1, piece.width))

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        for piece in self._layout.pieces(most_values or max(1, DECODED_AT_ONCE // (self.count + 1))):
            scales = self._scales[:, piece.rows, None].to(self._computed)
            steps = self._decoded(range(self.count + 1), piece, self._computed).mul_(scales).flatten(1)
            yield piece.part, steps[1:].add_(steps[0])

    def _decoded(self, members: Sequence[int], piece: Piece, dtype: torch.dtype) -> torch.Tensor:
        """Return the codes (members, rows, width) of a piece, converted in one call: small pieces are mostly calls."""
        codes = torch.cat([self._codes.row(row, piece.part) for row in members])
        for row in members:
            self._codes.done(row, piece.part)
        return codes.to(dtype).view(len(members), -1, piece.width)


def quantised(values: torch.Tensor, layout: FlatLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes (P,) of int8 and scales (R,): each row of a matrix is its codes times one scale.

    The error of a value is half a scale at most. A row of zeros has scale 0.
    """
    codes = torch.zeros(layout.size, dtype=torch.int8, device=values.device)
    scales = torch.zeros(layout.rows, dtype=CODE_SCALE, device=values.device)
    for matrix in layout.matrices.values():
        rows = values[matrix.part].view(-1, matrix.width)
        scale = (rows.abs().amax(dim=1) / LARGEST_CODE).to(CODE_SCALE)
        divisor = torch.where(scale > 0, scale, 1).to(rows.dtype)
        rounded = (rows / divisor[:, None]).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
        codes[matrix.part] = rounded.to(torch.int8).view(-1)
        scales[matrix.first_row : matrix.first_row + matrix.rows] = scale
    return codes, scales


def dequantised(codes: torch.Tensor, scales: torch.Tensor, layout: FlatLayout, dtype: torch.dtype) -> torch.Tensor:
    """Return the values (P,) of codes and scales."""
    values = torch.zeros(layout.size, dtype=dtype, device=codes.device)
    for matrix in layout.matrices.values():
        rows = slice(matrix.first_row, matrix.first_row + matrix.rows)
        decoded = codes[matrix.part].view(-1, matrix.width).to(dtype) * scales[rows, None].to(dtype)
        values[matrix.part] = decoded.view(-1)
    return values
