"""Members in float32 or bfloat16, value for value: sum_k w_k theta_k, row after row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from objectives.held_out import Floats
from objectives.merging.members import kernel
from objectives.merging.members.arrays import Rows, Shape, StoredArray
from objectives.merging.members.form import (
    DECODED_AT_ONCE,
    MULTIPLIED_AT_ONCE,
    SUMMED_AT_ONCE,
    Summing,
    parts,
    together,
    used,
)

CACHED_VALUES = 2**21
"""Values added at a time on a CPU without decoding: 1.2 to 1.6 times the bandwidth of one matrix product."""


@dataclass(frozen=True)
class WholeForm:
    """K members of P values in the dtype `stored`, merged in the dtype `computed`."""

    count: int
    size: int
    stored: torch.dtype
    computed: torch.dtype

    @property
    def digest_parts(self) -> Mapping[str, object]:
        return {"form": "whole", "dtype": str(self.stored)}

    def shapes(self) -> Mapping[str, Shape]:
        return {"values": Shape(self.count, self.size, self.stored)}

    def begin(self) -> Rows:
        yield from ()

    def rows_of(self, member: torch.Tensor) -> Rows:
        yield "values", member.to(self.stored)

    def held(self, arrays: Mapping[str, StoredArray]) -> "WholeMembers":
        return WholeMembers(self, arrays["values"])


class WholeMembers:
    """Members in one array (K, P)."""

    def __init__(self, form: WholeForm, values: StoredArray) -> None:
        self.count = form.count
        self.nbytes, self.device_nbytes = values.nbytes, values.device_nbytes
        self._form, self._values = form, values
        there = values.whole()
        self.kernel: Summing | None = kernel.of_whole(there) if kernel.usable(there, form.computed) else None

    @property
    def stack(self) -> torch.Tensor | None:
        """The values (K, P) where they lie on the device in the dtype of merging, else None."""
        return self._values.whole() if self._form.stored == self._form.computed else None

    def sum(self, weights: Floats, out: torch.Tensor) -> None:
        """Sum the rows into `out` (P,) a part at a time, or by the kernel."""
        if self.kernel is not None:
            self.kernel.sum(weights, out)
            return
        rows = used(weights)
        decodes = self._form.stored != self._form.computed
        in_cache = SUMMED_AT_ONCE[out.device.type] if decodes or out.device.type != "cpu" else CACHED_VALUES
        for part in parts(out.numel(), in_cache):
            summed = out[part]
            for place, (row, weight) in enumerate(rows):
                values = self._values.row(row, part).to(out.dtype)
                if place == 0:
                    torch.mul(values, weight, out=summed)
                else:
                    summed.add_(values, alpha=weight)
                self._values.done(row, part)

    def blocks(self, most_values: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield views of values on the device in the dtype of merging, else copies."""
        stack, size = self.stack, self._form.size
        if stack is not None and stack.device.type == "cpu":
            yield from ((part, stack[:, part]) for part in parts(size, most_values or size))
            return
        if stack is not None and size <= MULTIPLIED_AT_ONCE:
            most = min(most_values or size, max(1, MULTIPLIED_AT_ONCE // self.count))
            yield from ((part, stack[:, part]) for part in parts(size, most))
            return
        for part in parts(size, most_values or max(1, DECODED_AT_ONCE // self.count)):
            yield part, together(self.count, (self._decoded(row, part) for row in range(self.count)))

    def _decoded(self, row: int, part: slice) -> torch.Tensor:
        values = self._values.row(row, part).to(self._form.computed, copy=True)
        self._values.done(row, part)
        return values
