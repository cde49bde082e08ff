"""Integers with one scale for every row of a matrix: eight bits in a byte each, or six bits, four in three bytes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from objectives.merging.members.layout import FlatLayout, Piece

LARGEST_OF_EIGHT_BITS = 127
LARGEST_OF_SIX_BITS = 31
CODE_SCALE = torch.bfloat16
"""A scale that is rounded down by 2^-9 cuts its row's largest value by a quarter of an eight-bit code at most."""


class Codes(Protocol):
    """How the codes (P,) of one member, each from -`largest` to `largest`, are laid out in bytes."""

    bits: int
    largest: int
    dtype: torch.dtype
    """Of what is stored, in one byte."""

    @property
    def columns(self) -> int:
        """Say how many bytes one member takes."""

    def part(self, piece: Piece) -> slice:
        """Say where the rows of a piece lie among them."""

    def packed(self, codes: torch.Tensor) -> torch.Tensor:
        """Lay out codes (P,) of int8 in bytes (columns,)."""

    def unpacked(self, stored: torch.Tensor, piece: Piece, dtype: torch.dtype) -> torch.Tensor:
        """Return the codes (rows, width) of a piece whose bytes were read, in a dtype of floating point.

        Bytes of the same piece of several members, one after the other, give their rows one after the other.
        """


@dataclass(frozen=True)
class EightBits:
    """A byte for each value, where the value would be."""

    layout: FlatLayout
    bits = 8
    largest = LARGEST_OF_EIGHT_BITS
    dtype = torch.int8

    @property
    def columns(self) -> int:
        """As many bytes as values."""
        return self.layout.size

    def part(self, piece: Piece) -> slice:
        """The same part."""
        return piece.part

    def packed(self, codes: torch.Tensor) -> torch.Tensor:
        """Leave them as they are."""
        return codes

    def unpacked(self, stored: torch.Tensor, piece: Piece, dtype: torch.dtype) -> torch.Tensor:
        """Only convert them."""
        return stored.view(-1, piece.width).to(dtype)


@dataclass(frozen=True)
class SixBits:
    """Four values of a row in three bytes: a row (a, b, c, d) of quarters lies as (a, b, c), with d in their high bits.

    So everything is unpacked by shifts of whole rows. A row is padded to a multiple of four values.
    """

    layout: FlatLayout
    bits = 6
    largest = LARGEST_OF_SIX_BITS
    dtype = torch.uint8

    @property
    def columns(self) -> int:
        """Three bytes for each quarter of each row."""
        return int(self._first_bytes[-1])

    def part(self, piece: Piece) -> slice:
        """Count the bytes of the rows before."""
        start, stop = self._first_bytes[[piece.rows.start, piece.rows.stop]].tolist()
        return slice(start, stop)

    def packed(self, codes: torch.Tensor) -> torch.Tensor:
        """Pack matrix after matrix."""
        packed = []
        for matrix in self.layout.matrices.values():
            rows = codes[matrix.part].view(-1, matrix.width) + (self.largest + 1)
            padded = torch.nn.functional.pad(rows.to(torch.uint8), (0, -matrix.width % 4))
            quarters = padded.view(len(rows), 4, -1)
            high = torch.stack([quarters[:, 3] << shift & 0b1100_0000 for shift in (6, 4, 2)], dim=1)
            packed.append((quarters[:, :3] | high).flatten())
        return torch.cat(packed)

    def unpacked(self, stored: torch.Tensor, piece: Piece, dtype: torch.dtype) -> torch.Tensor:
        """Take the low bits of three quarters, and put the fourth together."""
        three = stored.view(-1, 3, _quarter(piece.width))
        high = three >> 6
        fourth = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4
        codes = torch.cat([(three & 0b0011_1111).flatten(1), fourth], dim=1)
        return codes[:, : piece.width].to(dtype).sub_(self.largest + 1)

    @cached_property
    def _first_bytes(self) -> npt.NDArray[np.int64]:
        """Where each row starts, and where the last one ends (R + 1,)."""
        matrices = self.layout.matrices.values()
        each = np.concatenate([np.full(matrix.rows, 3 * _quarter(matrix.width)) for matrix in matrices])
        return np.concatenate([[0], np.cumsum(each)])


def quantised(
    values: torch.Tensor, layout: FlatLayout, largest: int = LARGEST_OF_EIGHT_BITS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes (P,) int8 and scales (R,): each row of a matrix is its codes times one scale.

    A code is off by half a scale at most. A row of zeros has scale 0.
    """
    codes = torch.zeros(layout.size, dtype=torch.int8, device=values.device)
    scales = torch.zeros(layout.rows, dtype=CODE_SCALE, device=values.device)
    for matrix in layout.matrices.values():
        rows = values[matrix.part].view(-1, matrix.width)
        scale = (rows.abs().amax(dim=1) / largest).to(CODE_SCALE)
        divisor = torch.where(scale > 0, scale, 1).to(rows.dtype)
        rounded = (rows / divisor[:, None]).round_().clamp_(-largest, largest)
        codes[matrix.part] = rounded.to(torch.int8).view(-1)
        scales[matrix.first_row : matrix.first_row + matrix.rows] = scale
    return codes, scales


def dequantised(codes: torch.Tensor, scales: torch.Tensor, layout: FlatLayout, dtype: torch.dtype) -> torch.Tensor:
    """Return the values (P,) that codes and scales stand for."""
    values = torch.zeros(layout.size, dtype=dtype, device=codes.device)
    for matrix in layout.matrices.values():
        rows = slice(matrix.first_row, matrix.first_row + matrix.rows)
        decoded = codes[matrix.part].view(-1, matrix.width).to(dtype) * scales[rows, None].to(dtype)
        values[matrix.part] = decoded.view(-1)
    return values


def _quarter(width: int) -> int:
    return -(-width // 4)
