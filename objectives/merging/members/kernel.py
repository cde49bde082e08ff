"""Sums of members on a GPU by one Triton kernel a form, which reads every byte of a member once, and once only.

The same kernels pull a gradient back: <gradient, theta_k> for every member. Offsets have 64 bits, as 16 members of 134M
parameters pass 2^31 values, where products by cuBLAS are not safe. Triton comes with PyTorch's wheels for CUDA. Without
Triton members are summed by PyTorch's own operations, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, TypeGuard

import torch

from objectives.held_out import Floats
from objectives.merging.members.form import FlatLayout, Piece
from pool.errors import first_line
from pool.progress import say

try:
    import triton
    import triton.language as tl
except ImportError:  # a wheel of PyTorch for CPUs comes without
    triton = None

BLOCK_BYTES = 4096
"""Bytes of one member in a block of whole values: two loads of 16 bytes for each of 128 threads."""
TILE = (16, 256)
"""Rows and columns of a tile of steps: 256 divides the usual widths, and each row has a scale of its own."""
MARKS = 128
"""Bytes of marks in a block of pruned values, eight values a byte."""
_ALIGNED = 16
"""Bytes of the widest load; tensors start at multiples of 16 values."""


def usable(values: torch.Tensor | None, computed: torch.dtype) -> TypeGuard[torch.Tensor]:
    """Say whether a kernel sums values in a dtype: on a GPU, in float32, with Triton and its compiler."""
    if values is None or computed != torch.float32 or values.device.type != "cuda":
        return False
    return _tried(values.device)


@cache
def _tried(device: torch.device) -> bool:
    """Sum two values on a device; whatever is missing or wrong is said once."""
    try:
        if triton is None:
            raise ImportError("Triton is not installed")
        out = torch.empty(2, device=device)
        of_whole(torch.ones(1, 2, device=device)).sum([3.0], out)
        if out.tolist() != [3.0, 3.0]:
            raise RuntimeError(f"3 x 1 became {out.tolist()}")
    except Exception as error:  # Triton raises errors of many types for a missing compiler or header
        say(f"no Triton kernel here ({first_line(error)}): members are summed row by row, as exactly and more slowly")
        return False
    return True


@dataclass(frozen=True)
class Kernel:
    """A form's kernel with its arrays: `programs` blocks of (P,), `rows` rows to sum, the first a reference or not."""

    function: Any
    programs: int
    rows: int
    arrays: tuple[torch.Tensor | int, ...]
    constants: dict[str, int | bool]
    referenced: bool = False

    def sum(self, weights: Sequence[float] | Floats, out: torch.Tensor) -> None:
        """Write sum_k w_k theta_k into `out` (P,) by one launch. Members of weight zero are not read."""
        given = [float(weight) for weight in weights]
        if self.referenced:
            given = [float(sum(given)), *given]
        on_device = torch.tensor(given, dtype=torch.float32).to(out.device, non_blocking=True)
        launch(self.function, self.programs, (*self.arrays, on_device, out), {**self.constants, "PULL": False})

    def inner(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return <gradient, theta_k> (K,): sums of a block in float32, and of blocks in float64."""
        found = torch.empty(self.rows, self.programs, device=gradient.device)
        launch(self.function, self.programs, (*self.arrays, gradient, found), {**self.constants, "PULL": True})
        total = found.sum(dim=1, dtype=torch.float64)
        return total[1:] + total[0] if self.referenced else total


def launch(
    function: Any, programs: int, arguments: tuple[torch.Tensor | int, ...], constants: dict[str, int | bool]
) -> None:
    """Run a kernel once, on the device of its first argument; products and sums are fused, as in PyTorch's `add_`."""
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        function[(programs,)](*arguments, **constants, enable_fp_fusion=True)


def of_whole(values: torch.Tensor) -> Kernel:
    """Make the kernel of members (K, P) in float32 or bfloat16."""
    rows, size = values.shape
    block = BLOCK_BYTES // values.element_size()
    return Kernel(_whole, -(-size // block), rows, (values, rows, size), {"BLOCK": block})


def of_steps(codes: torch.Tensor, scales: torch.Tensor, layout: FlatLayout) -> Kernel:
    """Make the kernel of codes (1 + K, P) with scales (1 + K, R), the reference before the members."""
    pieces = list(layout.pieces(layout.size))
    owners, table = _cut(pieces, lambda piece: -(-piece.values // piece.width // TILE[0]) * -(-piece.width // TILE[1]))
    widths = math.gcd(_ALIGNED, *(piece.width for piece in pieces))
    arrays = (codes, scales, owners.to(codes.device), table.to(codes.device), *codes.shape, scales.shape[1])
    return Kernel(
        _steps,
        len(owners),
        len(codes),
        arrays,
        {"ALIGNED": widths, "HEIGHT": TILE[0], "WIDTH": TILE[1]},
        referenced=True,
    )


def of_pruned(arrays: Mapping[str, torch.Tensor], pieces: Sequence[Piece]) -> Kernel:
    """Make the kernel of the arrays of pruned members, by name; `scales` are there for int8."""
    seed, bits, kept = (arrays[name] for name in ("seed", "bits", "kept"))
    owners, table = _cut(pieces, lambda piece: -(-piece.values // (8 * MARKS)))
    scales = arrays.get("scales", kept)
    tables = (_starts(bits, arrays["starts"], pieces), scales, owners.to(bits.device), table.to(bits.device))
    constants: dict[str, int | bool] = {"SCALED": "scales" in arrays, "MARKS": MARKS}
    sizes = (*bits.shape, kept.shape[1], scales.shape[1])
    return Kernel(_pruned, len(owners), 1 + len(bits), (seed, bits, kept, *tables, *sizes), constants, referenced=True)


def _cut(pieces: Sequence[Piece], blocks_of: Callable[[Piece], int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the piece of every block (B,), and the pieces: first value, values, width, first row, block and byte."""
    blocks = [blocks_of(piece) for piece in pieces]
    first_blocks = accumulate(blocks, initial=0)
    first_bytes = accumulate((-(-piece.values // 8) for piece in pieces), initial=0)
    table = [
        [piece.part.start, piece.values, piece.width, piece.rows.start, block, byte]
        for piece, block, byte in zip(pieces, first_blocks, first_bytes, strict=False)
    ]
    owners = torch.repeat_interleave(torch.arange(len(pieces), dtype=torch.int32), torch.tensor(blocks))
    return owners, torch.tensor(table)


def _starts(bits: torch.Tensor, starts: torch.Tensor, pieces: Sequence[Piece]) -> torch.Tensor:
    """Count the kept values before each block (K, B), from those before each piece (K, pieces)."""
    ones = torch.tensor([byte.bit_count() for byte in range(256)], device=bits.device)
    found, first = [], 0
    for number, piece in enumerate(pieces):
        last = first - (-piece.values // 8)
        counts = torch.nn.functional.pad(ones[bits[:, first:last].int()], (0, (first - last) % MARKS))
        blocks = counts.view(len(bits), -1, MARKS).sum(2)
        found.append(starts[:, number, None] + blocks.cumsum(1) - blocks)
        first = last
    return torch.cat(found, dim=1)


def _jit(function: Callable[..., object]) -> Any:
    return function if triton is None else triton.jit(function)


@_jit
def _begun(given: tl.tensor, at: tl.tensor, inside: tl.tensor, PULL: tl.constexpr) -> tl.tensor:
    """Return the values a block begins with: its part of the gradient, or zeros."""
    if PULL:
        return tl.load(given + at, mask=inside, other=0)
    return tl.zeros(at.shape, tl.float32)


@_jit
def _taken(begun: tl.tensor, value: tl.tensor, out: tl.tensor, row: tl.tensor, PULL: tl.constexpr) -> tl.tensor:
    """Add a row's values to the sum; or write their product with the gradient, and return the gradient."""
    if PULL:
        programs = tl.num_programs(0).to(tl.int64)
        tl.store(out + row * programs + tl.program_id(0), tl.sum(begun * value))
        return begun
    return begun + value


@_jit
def _whole(
    values: tl.tensor,
    rows: tl.tensor,
    size: tl.tensor,
    given: tl.tensor,
    out: tl.tensor,
    PULL: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    stride = tl.cast(size, tl.int64)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < stride
    total = _begun(given, at, inside, PULL)
    for row in range(rows):
        weight = 1.0 if PULL else tl.load(given + row)
        if weight != 0:
            value = tl.load(values + row * stride + at, mask=inside, other=0).to(tl.float32)
            total = _taken(total, weight * value, out, row, PULL)
    if not PULL:
        tl.store(out + at, total, mask=inside)


@_jit
def _steps(
    codes: tl.tensor,
    scales: tl.tensor,
    owners: tl.tensor,
    table: tl.tensor,
    rows: tl.tensor,
    size: tl.tensor,
    scaled: tl.tensor,
    given: tl.tensor,
    out: tl.tensor,
    PULL: tl.constexpr,
    ALIGNED: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    piece = table + 6 * tl.load(owners + tl.program_id(0)).to(tl.int64)
    start = tl.multiple_of(tl.load(piece), 16)
    values, first_row, first_block = tl.load(piece + 1), tl.load(piece + 3), tl.load(piece + 4)
    width = tl.multiple_of(tl.load(piece + 2), ALIGNED)
    block, across = tl.program_id(0) - first_block, tl.cdiv(width, WIDTH)
    down = block // across * HEIGHT + tl.arange(0, HEIGHT)
    right = block % across * WIDTH + tl.arange(0, WIDTH)
    there = down * width < values
    inside = there[:, None] & (right < width)[None, :]
    at = start + down[:, None] * width + right[None, :]
    total = _begun(given, at, inside, PULL)
    for row in range(rows):
        weight = 1.0 if PULL else tl.load(given + row)
        if weight != 0:
            scale = tl.load(scales + row * tl.cast(scaled, tl.int64) + first_row + down, mask=there, other=0)
            code = tl.load(codes + row * tl.cast(size, tl.int64) + at, mask=inside, other=0)
            value = code.to(tl.float32) * (weight * scale.to(tl.float32))[:, None]
            total = _taken(total, value, out, row, PULL)
    if not PULL:
        tl.store(out + at, total, mask=inside)


@_jit
def _pruned(
    seed: tl.tensor,
    bits: tl.tensor,
    kept: tl.tensor,
    starts: tl.tensor,
    scales: tl.tensor,
    owners: tl.tensor,
    table: tl.tensor,
    members: tl.tensor,
    marked: tl.tensor,
    values_kept: tl.tensor,
    scaled: tl.tensor,
    given: tl.tensor,
    out: tl.tensor,
    PULL: tl.constexpr,
    SCALED: tl.constexpr,
    MARKS: tl.constexpr,
) -> None:
    piece = table + 6 * tl.load(owners + tl.program_id(0)).to(tl.int64)
    start, values = tl.load(piece), tl.load(piece + 1)
    byte = (tl.program_id(0) - tl.load(piece + 4)).to(tl.int32) * MARKS + tl.arange(0, MARKS)
    within = byte[None, :] * 8 + tl.arange(0, 8)[:, None]  # a thread decodes a byte
    nibble = 4 * tl.arange(0, 8)[:, None].to(tl.uint32)
    scale_row = tl.load(piece + 3).to(tl.int32) + within // tl.load(piece + 2).to(tl.int32)
    inside = within < values
    total = _begun(given, start + within, inside, PULL)
    weight = 1.0 if PULL else tl.load(given)
    if weight != 0:
        total = _taken(total, weight * tl.load(seed + start + within, mask=inside, other=0), out, 0, PULL)
    packed = bits + tl.load(piece + 5) + byte
    for member in range(members):
        weight = 1.0 if PULL else tl.load(given + 1 + member)
        if weight != 0:
            spread = tl.load(packed + member * tl.cast(marked, tl.int64), mask=byte * 8 < values, other=0).to(tl.uint32)
            spread = (spread | (spread << 12)) & 0x000F000F
            spread = (spread | (spread << 6)) & 0x03030303
            spread = (spread | (spread << 3)) & 0x11111111  # a mark in each of eight nibbles
            marks = (spread[None, :] >> nibble) & 1
            counts = (spread * 0x11111111) >> 28
            before = (tl.cumsum(counts, 0) - counts)[None, :] + (((spread * 0x11111110)[None, :] >> nibble) & 15)
            first = tl.load(starts + member * tl.num_programs(0).to(tl.int64) + tl.program_id(0))
            place = kept + member * tl.cast(values_kept, tl.int64) + first + before
            value = weight * tl.load(place, mask=marks != 0, other=0).to(tl.float32)
            if SCALED:
                scale = scales + member * tl.cast(scaled, tl.int64) + scale_row
                value *= tl.load(scale, mask=marks != 0, other=0).to(tl.float32)
            total = _taken(total, value, out, 1 + member, PULL)
    if not PULL:
        tl.store(out + start + within, total, mask=inside)
