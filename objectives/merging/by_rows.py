"""Merges whose weights differ from row to row of every matrix.

A row is what one token of the embedding or one unit of a layer has; a vector is one row. Members of every form decode
a block at a time, so the same few lines serve all of them: slower than the sum by one weight a member.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from objectives.held_out import Floats
from objectives.merging.members.form import DECODED_AT_ONCE, FlatLayout, HeldMembers


class ModelRows:
    """The R rows of all matrices of a model whose parameters lie in a buffer (P,).

    information: Fisher information (K, R) of members, once a merge rule has asked for it
    """

    def __init__(self, layout: FlatLayout, device: torch.device) -> None:
        self.count = layout.rows
        self.information: Floats | None = None
        self._layout = layout
        # Gaps between tensors count to row 0: their values are zero.
        self._numbers = torch.zeros(layout.size, dtype=torch.int32, device=device)
        for matrix in layout.matrices.values():
            rows = torch.arange(matrix.first_row, matrix.first_row + matrix.rows, dtype=torch.int32, device=device)
            self._numbers[matrix.part] = rows.repeat_interleave(matrix.width)

    def sum(self, members: HeldMembers, weights: Floats, out: torch.Tensor) -> None:
        """Write sum_k w_kr theta_kr into `out` (P,) for weights (K, R). Every member is read."""
        by_row = torch.tensor(weights, dtype=out.dtype, device=out.device)
        for part, values in members.blocks(max(1, DECODED_AT_ONCE // members.count)):
            torch.sum(values * by_row[:, self._numbers[part].long()], dim=0, out=out[part])

    def sum_many(self, members: HeldMembers, weights: Floats, like: torch.Tensor) -> torch.Tensor:
        """Return N sums (N, P) for weights (N, K, R), in dtype and device of `like`, one after the other."""
        summed = like.new_empty(len(weights), like.numel())
        for row, one in enumerate(weights):
            self.sum(members, one, summed[row])
        return summed

    def inner(self, members: HeldMembers, gradient: torch.Tensor) -> Floats:
        """Return the inner products (K, R) of a gradient (P,) and the members in each row, in float64."""
        total = torch.zeros(members.count, self.count, dtype=torch.float64, device=gradient.device)
        for part, values in members.blocks(max(1, DECODED_AT_ONCE // members.count)):
            total.index_add_(1, self._numbers[part].long(), (values * gradient[part]).double())
        found: Floats = total.cpu().numpy()
        return found

    def added(self, values: torch.Tensor) -> Floats:
        """Return the sum (R,) of values (P,) in each row, in float64."""
        total = torch.zeros(self.count, dtype=torch.float64, device=values.device)
        found: Floats = total.index_add_(0, self._numbers.long(), values.double()).cpu().numpy()
        return found

    def means(self, tensors: Mapping[str, torch.Tensor]) -> Floats:
        """Return the mean (R,) of every row of tensors with the parameters' names and shapes, in float64."""
        means = torch.zeros(self.count, dtype=torch.float64)
        for name, matrix in self._layout.matrices.items():
            rows = slice(matrix.first_row, matrix.first_row + matrix.rows)
            means[rows] = tensors[name].double().reshape(-1, matrix.width).mean(dim=1)
        return means.numpy()
