"""Members as the largest part of their task vectors: every tensor keeps the same share of its values.

theta_k ~ theta_0 + kept_k, so a merge is (sum_k w_k) theta_0 + sum_k w_k kept_k (magnitude pruning: Han et al. 2015,
arXiv 1506.02626; of task vectors: Yadav et al. 2023, arXiv 2306.01708, "trim"). One bit a value marks the kept values.
The seed is kept whole, in the dtype of merging.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch

from objectives.held_out import Floats
from objectives.merging.members import kernel
from objectives.merging.members.arrays import Rows, Shape, StoredArray
from objectives.merging.members.form import DECODED_AT_ONCE, SUMMED_AT_ONCE, FlatLayout, Piece, Summing, together, used
from objectives.merging.members.steps import CODE_SCALE, quantised

_BITS = 8


@dataclass(frozen=True)
class PrunedForm:
    """K members as a share of their steps from `seed` (P,), in a dtype, or as int8 codes with scales."""

    count: int
    layout: FlatLayout
    seed: torch.Tensor
    keep_share: float
    stored: torch.dtype

    @property
    def digest_parts(self) -> Mapping[str, object]:
        return {"form": "pruned", "keep_share": self.keep_share, "dtype": str(self.stored)}

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces whose kept values lie together."""
        return tuple(self.layout.pieces(SUMMED_AT_ONCE["cpu"]))

    def shapes(self) -> Mapping[str, Shape]:
        """The seed; marks of the kept values, the values, and the start of each piece among them; scales of int8."""
        kept = sum(self._kept_of(matrix.rows * matrix.width) for matrix in self.layout.matrices.values())
        shapes = {
            "seed": Shape(1, self.layout.size, self.seed.dtype),
            "bits": Shape(self.count, sum(_bytes_of(piece) for piece in self.pieces), torch.uint8),
            "kept": Shape(self.count, kept, self.stored),
            "starts": Shape(self.count, len(self.pieces) + 1, torch.int64, small=True),
        }
        scales = {"scales": Shape(self.count, self.layout.rows, CODE_SCALE, small=True)}
        return shapes | (scales if self.stored == torch.int8 else {})

    def begin(self) -> Rows:
        """Take the seed as it is."""
        yield "seed", self.seed

    def rows_of(self, member: torch.Tensor) -> Rows:
        """Encode a member in every other array."""
        step = member - self.seed
        mask = self._largest(step)
        if self.stored == torch.int8:
            values, scales = quantised(torch.where(mask, step, 0), self.layout)
            yield "scales", scales
        else:
            values = step.to(self.stored)
        matrices = self.layout.matrices.values()
        yield "kept", torch.cat([values[matrix.part][mask[matrix.part]] for matrix in matrices])
        yield "bits", torch.cat([_packed(mask[piece.part]) for piece in self.pieces])
        counts = torch.stack([mask[piece.part].sum() for piece in self.pieces])
        yield "starts", torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def held(self, arrays: Mapping[str, StoredArray]) -> "PrunedMembers":
        return PrunedMembers(self, arrays)

    def _kept_of(self, values: int) -> int:
        return max(1, round(self.keep_share * values))

    def _largest(self, step: torch.Tensor) -> torch.Tensor:
        """Mark the largest values (P,) of each tensor, exactly as many in all members."""
        mask = torch.zeros(step.numel(), dtype=torch.bool, device=step.device)
        for matrix in self.layout.matrices.values():
            size = step[matrix.part].abs()
            mask[matrix.part.start + size.topk(self._kept_of(size.numel()), sorted=False).indices] = True
        return mask


class PrunedMembers:
    """Members in arrays of kept values, decoded a piece at a time."""

    def __init__(self, form: PrunedForm, arrays: Mapping[str, StoredArray]) -> None:
        self.count = form.count
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self.device_nbytes = sum(array.device_nbytes for array in arrays.values())
        self._computed, self._pieces = form.seed.dtype, form.pieces
        ends = accumulate(map(_bytes_of, self._pieces), initial=0)
        self._bytes = [slice(*both) for both in pairwise(ends)]
        self._seed, self._bits, self._kept = (arrays[name] for name in ("seed", "bits", "kept"))
        starts = arrays["starts"].whole()
        assert starts is not None, "small arrays are kept on the device"
        self._starts = starts
        self._scales = arrays["scales"].whole() if "scales" in arrays else None
        self.kernel: Summing | None = None
        if kernel.usable(self._kept.whole(), self._computed):
            there = {name: values for name, array in arrays.items() if (values := array.whole()) is not None}
            self.kernel = kernel.of_pruned(there, self._pieces)

    @cached_property
    def _places(self) -> list[list[int]]:
        """The starts of pieces as numbers, for sums without the kernel."""
        found: list[list[int]] = self._starts.tolist()
        return found

    def sum(self, weights: Floats, out: torch.Tensor) -> None:
        """Sum the seed and the kept values into `out` (P,), a piece at a time, or by the kernel."""
        if self.kernel is not None:
            self.kernel.sum(weights, out)
            return
        rows, total = used(weights), float(weights.sum())
        for number, piece in enumerate(self._pieces):
            summed = out[piece.part]
            torch.mul(self._seed.row(0, piece.part), total, out=summed)
            self._seed.done(0, piece.part)
            for row, weight in rows:
                summed.add_(self._step(row, number), alpha=weight)

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield decoded pieces, cut smaller where they are too large."""
        most = most_values or max(1, DECODED_AT_ONCE // self.count)
        for number, piece in enumerate(self._pieces):
            steps = together(self.count, (self._step(row, number) for row in range(self.count)))
            values = steps.add_(self._seed.row(0, piece.part))
            self._seed.done(0, piece.part)
            for start in range(0, piece.values, most):
                stop = min(start + most, piece.values)
                yield slice(piece.part.start + start, piece.part.start + stop), values[:, start:stop]

    def _step(self, row: int, number: int) -> torch.Tensor:
        """Decode a member's step in one piece (n,)."""
        piece, bits = self._pieces[number], self._bytes[number]
        kept = slice(*self._places[row][number : number + 2])
        mask = _unpacked(self._bits.row(row, bits), piece.values)
        step = torch.zeros(piece.values, dtype=self._computed, device=mask.device)
        step.masked_scatter_(mask, self._kept.row(row, kept).to(self._computed))
        self._bits.done(row, bits)
        self._kept.done(row, kept)
        if self._scales is not None:
            step.view(-1, piece.width).mul_(self._scales[row, piece.rows, None])
        return step


def _bytes_of(piece: Piece) -> int:
    return -(-piece.values // _BITS)


def _powers(device: torch.device) -> torch.Tensor:
    return torch.tensor([1 << bit for bit in range(_BITS)], dtype=torch.uint8, device=device)


def _packed(mask: torch.Tensor) -> torch.Tensor:
    """Turn booleans (n,) into bytes; the first boolean is the lowest bit."""
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.numel() % _BITS))
    return (padded.view(-1, _BITS) * _powers(mask.device)).sum(dim=1, dtype=torch.uint8)


def _unpacked(bits: torch.Tensor, count: int) -> torch.Tensor:
    return ((bits[:, None] & _powers(bits.device)) != 0).flatten()[:count]
