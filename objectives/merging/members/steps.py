"""Members as steps from one reference, in integers of eight or six bits with a scale for every row of a matrix.

theta_k = r + tau_k, so sum_k w_k theta_k = (sum_k w_k) r + sum_k w_k tau_k, whatever the weights sum to. The surprising
thing: r is the seed *as those integers give it back*, and tau_k = theta_k - r takes up what that rounding left. So the
reference costs one more row like a member's, and its rounding does no harm.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from objectives.merging.members.arrays import Shape, StoredArray
from objectives.merging.members.codes import CODE_SCALE, Codes, dequantised, quantised
from objectives.merging.members.form import DECODED_AT_ONCE, SUMMED_AT_ONCE, Weights, used
from objectives.merging.members.layout import FlatLayout, Piece


@dataclass(frozen=True)
class StepsForm:
    """K members as steps from a reference, near `seed` (P,), which is not kept."""

    count: int
    layout: FlatLayout
    seed: torch.Tensor
    codes: Codes

    @property
    def digest_parts(self) -> Mapping[str, object]:
        """Only a name: the seed is digested with the members."""
        return {"form": f"int{self.codes.bits}"}

    def shapes(self) -> Mapping[str, Shape]:
        """Codes and scales, the reference before the members."""
        return {
            "codes": Shape(self.count + 1, self.codes.columns, self.codes.dtype),
            "scales": Shape(self.count + 1, self.layout.rows, CODE_SCALE, small=True),
        }

    def encode(self, members: Iterable[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """A row of both for the reference and for each member's step from it."""
        largest = self.codes.largest
        codes, scales = quantised(self.seed, self.layout, largest)
        yield "codes", self.codes.packed(codes)
        yield "scales", scales
        reference = dequantised(codes, scales, self.layout, self.seed.dtype)
        for member in members:
            codes, scales = quantised(member - reference, self.layout, largest)
            yield "codes", self.codes.packed(codes)
            yield "scales", scales

    def held(self, arrays: Mapping[str, StoredArray]) -> "StepsMembers":
        """Hold them."""
        return StepsMembers(self, arrays)


class StepsMembers:
    """Members whose codes (1 + K, bytes) and scales (1 + K, R) lie in two arrays; none outlives its piece decoded."""

    def __init__(self, form: StepsForm, arrays: Mapping[str, StoredArray]) -> None:
        self.count = form.count
        self._layout, self._computed, self._codes = form.layout, form.seed.dtype, form.codes
        self._stored = arrays["codes"]
        scales = arrays["scales"].whole()
        assert scales is not None, "scales are kept on the device"
        self._scales = scales
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self.device_nbytes = sum(array.device_nbytes for array in arrays.values())

    def sum(self, weights: Weights, out: torch.Tensor) -> None:
        """Sum code times scale times weight into `out` (P,), a piece of whole rows at a time."""
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
        """Yield decoded pieces."""
        for piece in self._layout.pieces(most_values or max(1, DECODED_AT_ONCE // (self.count + 1))):
            scales = self._scales[:, piece.rows, None].to(self._computed)
            steps = self._decoded(range(self.count + 1), piece, self._computed).mul_(scales).flatten(1)
            yield piece.part, steps[1:].add_(steps[0])

    def _decoded(self, members: Sequence[int], piece: Piece, dtype: torch.dtype) -> torch.Tensor:
        """Return the codes (members, rows, width) of a piece, all unpacked at once: small pieces are mostly calls."""
        part = self._codes.part(piece)
        stored = torch.cat([self._stored.row(row, part) for row in members])
        for row in members:
            self._stored.done(row, part)
        return self._codes.unpacked(stored, piece, dtype).view(len(members), -1, piece.width)
