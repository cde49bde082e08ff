"""Members as int8 steps from one reference, with a scale for every row of a matrix.

theta_k = r + tau_k, so sum_k w_k theta_k = (sum_k w_k) r + sum_k w_k tau_k, whatever the weights sum to. The surprising
thing: r is the seed *as int8 gives it back*, and tau_k = theta_k - r takes up what that rounding left. So the reference
costs one more row of a byte a value, and its rounding does no harm.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from objectives.members.arrays import Shape, Stored
from objectives.members.form import VALUES_AT_ONCE, together, used
from objectives.members.held import VALUES_AT_ONCE as DECODED_AT_ONCE
from objectives.members.held import Weights
from objectives.members.layout import Layout

LARGEST_CODE = 127
SCALE = torch.bfloat16
"""A scale that is rounded down by 2^-9 cuts its row's largest value by a quarter of a code: less than rounding does."""


@dataclass(frozen=True)
class Int8Form:
    """K members as steps from a reference, near `seed` (P,), which is not kept."""

    count: int
    layout: Layout
    seed: torch.Tensor

    @property
    def digest_parts(self) -> Mapping[str, object]:
        """Only a name: the seed is digested with the members."""
        return {"form": "int8"}

    def shapes(self) -> Mapping[str, Shape]:
        """Codes and scales, the reference before the members."""
        return {
            "codes": Shape(self.count + 1, self.layout.size, torch.int8),
            "scales": Shape(self.count + 1, self.layout.rows, SCALE, small=True),
        }

    def encode(self, members: Iterable[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """A row of both for the reference and for each member's step from it."""
        codes, scales = quantised(self.seed, self.layout)
        yield "codes", codes
        yield "scales", scales
        reference = dequantised(codes, scales, self.layout, self.seed.dtype)
        for member in members:
            codes, scales = quantised(member - reference, self.layout)
            yield "codes", codes
            yield "scales", scales

    def held(self, arrays: Mapping[str, Stored]) -> "Int8Members":
        """Hold them."""
        return Int8Members(self.count, self.layout, self.seed.dtype, arrays)


class Int8Members:
    """Members whose codes (1 + K, P) and scales (1 + K, R) lie in two arrays; no value outlives its piece decoded."""

    def __init__(self, count: int, layout: Layout, computed: torch.dtype, arrays: Mapping[str, Stored]) -> None:
        self.count = count
        self._layout, self._computed, self._codes = layout, computed, arrays["codes"]
        scales = arrays["scales"].whole()
        assert scales is not None, "scales are kept on the device"
        self._scales = scales
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self.device_nbytes = sum(array.device_nbytes for array in arrays.values())

    def sum(self, weights: Weights, out: torch.Tensor) -> None:
        """Sum code times scale times weight into `out` (P,), a piece of whole rows at a time."""
        rows = used([weights.sum(), *weights])
        shares = {row: self._scales[row].to(out.dtype) * weight for row, weight in rows}
        for piece in self._layout.pieces(VALUES_AT_ONCE[out.device.type]):
            summed = out[piece.part].view(-1, piece.width).zero_()
            for row, _ in rows:
                codes = self._codes.row(row, piece.part).view(-1, piece.width).to(out.dtype)
                summed.addcmul_(codes, shares[row][piece.rows, None])
                self._codes.done(row, piece.part)

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield decoded pieces."""
        for piece in self._layout.pieces(most_values or max(1, DECODED_AT_ONCE // (self.count + 1))):
            codes = together(self.count + 1, (self._taken(row, piece.part) for row in range(self.count + 1)))
            scales = self._scales[:, piece.rows, None].to(self._computed)
            steps = codes.view(self.count + 1, -1, piece.width).mul_(scales).flatten(1)
            yield piece.part, steps[1:].add_(steps[0])

    def _taken(self, row: int, part: slice) -> torch.Tensor:
        codes = self._codes.row(row, part).to(self._computed)
        self._codes.done(row, part)
        return codes


def quantised(values: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes (P,) int8 and scales (R,): each row of a matrix is its codes times one scale.

    A code is off by half a scale at most. A row of zeros has scale 0.
    """
    codes = torch.zeros(layout.size, dtype=torch.int8, device=values.device)
    scales = torch.zeros(layout.rows, dtype=SCALE, device=values.device)
    for matrix in layout.matrices.values():
        rows = values[matrix.part].view(-1, matrix.width)
        scale = (rows.abs().amax(dim=1) / LARGEST_CODE).to(SCALE)
        divisor = torch.where(scale > 0, scale, 1).to(rows.dtype)
        rounded = (rows / divisor[:, None]).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
        codes[matrix.part] = rounded.to(torch.int8).view(-1)
        scales[matrix.first_row : matrix.first_row + matrix.rows] = scale
    return codes, scales


def dequantised(codes: torch.Tensor, scales: torch.Tensor, layout: Layout, dtype: torch.dtype) -> torch.Tensor:
    """Return the values (P,) that codes and scales stand for."""
    values = torch.zeros(layout.size, dtype=dtype, device=codes.device)
    for matrix in layout.matrices.values():
        rows = slice(matrix.first_row, matrix.first_row + matrix.rows)
        decoded = codes[matrix.part].view(-1, matrix.width).to(dtype) * scales[rows, None].to(dtype)
        values[matrix.part] = decoded.view(-1)
    return values
