"""Members as they are, in float32 or bfloat16: sum_k w_k theta_k, row after row."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from objectives.merging.members.arrays import Shape, StoredArray
from objectives.merging.members.form import DECODED_AT_ONCE, SUMMED_AT_ONCE, Weights, parts, together, used

CACHED_VALUES = 2**21
"""Values added at a time on a CPU where nothing is decoded: 1.2 to 1.6 times the bandwidth of one matrix product."""


@dataclass(frozen=True)
class WholeForm:
    """K members of P values in a dtype, merged in `computed`."""

    count: int
    size: int
    stored: torch.dtype
    computed: torch.dtype

    @property
    def digest_parts(self) -> Mapping[str, object]:
        """The dtype."""
        return {"form": "whole", "dtype": str(self.stored)}

    def shapes(self) -> Mapping[str, Shape]:
        """One array."""
        return {"values": Shape(self.count, self.size, self.stored)}

    def encode(self, members: Iterable[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """A row for each member, rounded to the dtype."""
        for member in members:
            yield "values", member.to(self.stored)

    def held(self, arrays: Mapping[str, StoredArray]) -> "WholeMembers":
        """Hold them."""
        return WholeMembers(self, arrays["values"])


class WholeMembers:
    """Members whose values lie in one array (K, P)."""

    def __init__(self, form: WholeForm, values: StoredArray) -> None:
        self.count = form.count
        self.nbytes, self.device_nbytes = values.nbytes, values.device_nbytes
        self._form, self._values = form, values

    @property
    def stack(self) -> torch.Tensor | None:
        """The values (K, P) where they lie on the device in the dtype that is merged in; None elsewhere."""
        return self._values.whole() if self._form.stored == self._form.computed else None

    def sum(self, weights: Weights, out: torch.Tensor) -> None:
        """Sum the rows into `out` (P,): a part at a time, but by one matrix product where they lie on a GPU."""
        stack = self.stack
        if stack is not None and out.device.type != "cpu":
            torch.mv(stack.T, torch.tensor(weights, dtype=out.dtype, device=out.device), out=out)
            return
        rows = used(weights)
        for part in parts(out.numel(), self._at_once(out)):
            summed = out[part]
            for place, (row, weight) in enumerate(rows):
                values = self._values.row(row, part).to(out.dtype)
                if place == 0:
                    torch.mul(values, weight, out=summed)
                else:
                    summed.add_(values, alpha=weight)
                self._values.done(row, part)

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield views of what lies on the device as it is, and copies of anything else."""
        stack = self.stack
        size = self._form.size
        if stack is not None:
            for part in parts(size, most_values or size):
                yield part, stack[:, part]
            return
        for part in parts(size, most_values or max(1, DECODED_AT_ONCE // self.count)):
            yield part, together(self.count, (self._decoded(row, part) for row in range(self.count)))

    def _decoded(self, row: int, part: slice) -> torch.Tensor:
        values = self._values.row(row, part).to(self._form.computed, copy=True)
        self._values.done(row, part)
        return values

    def _at_once(self, out: torch.Tensor) -> int:
        decodes = self._form.stored != self._form.computed
        return SUMMED_AT_ONCE[out.device.type] if decodes or out.device.type != "cpu" else CACHED_VALUES
