"""Sums members of every form by the kernels in Triton's interpreter, and prints a line of JSON for each form.

With the argument `far`: members of 2^31 values and more, of which only a few are not zero, and which take no memory.
Run as a process of its own with TRITON_INTERPRET=1, which Triton reads as it is imported. Counted are the bytes that
masks let through; a byte counts once in a load of a block, and again in the next load. Ideal is each used member once,
and the result once.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

SHAPES = ((64, 768), (1, 768), (23, 300), (5, 7))
MEMBERS = 4
WEIGHTS = np.array([0.3, 0.0, 1.1, -0.2])


def every_form() -> None:
    from triton.runtime.interpreter import InterpreterBuilder

    from objectives.merging.members import kernel
    from objectives.merging.members.arrays import filled
    from objectives.merging.members.form import FlatLayout, Form, Matrix, encoded, inner
    from objectives.merging.members.pruned import PrunedForm
    from objectives.merging.members.steps import StepsForm
    from objectives.merging.members.whole import WholeForm

    moved = {"bytes": 0}
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

    def counted_load(self, pointers, mask, *rest):
        found = load(self, pointers, mask, *rest)
        moved["bytes"] += len(np.unique(np.asarray(pointers.data)[mask.data])) * found.data.itemsize
        return found

    def counted_store(self, pointers, value, mask, *rest):
        moved["bytes"] += int(mask.data.sum()) * value.data.itemsize
        return store(self, pointers, value, mask, *rest)

    InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = counted_load, counted_store
    kernel.usable = lambda values, computed: values is not None and computed == torch.float32

    matrices, start, row = {}, 0, 0
    for number, (rows, width) in enumerate(SHAPES):
        matrices[str(number)] = Matrix(slice(start, start + rows * width), width, row)
        start, row = -(-(start + rows * width) // 16) * 16, row + rows
    layout, generator = FlatLayout(matrices, start, row), torch.Generator().manual_seed(0)
    there = torch.zeros(start)
    for matrix in matrices.values():
        there[matrix.part] = 1
    seed = torch.randn(start, generator=generator) * there
    members = [seed + 0.1 * torch.randn(start, generator=generator) * there for _ in range(MEMBERS)]
    types = (torch.float32, torch.bfloat16, torch.int8)
    forms: list[Form] = [WholeForm(MEMBERS, start, dtype, torch.float32) for dtype in types[:2]]
    forms += [StepsForm(MEMBERS, layout, seed), *(PrunedForm(MEMBERS, layout, seed, 0.5, dtype) for dtype in types)]
    for form in forms:
        places = dict.fromkeys(form.shapes(), torch.device("cpu"))
        arrays = filled(form.shapes(), encoded(form, members), places, streamed=False)
        held = form.held(arrays)
        exact = torch.zeros(MEMBERS, start, dtype=torch.float64)
        for part, values in held.blocks():
            exact[:, part] = values.double()
        found = torch.zeros(start)
        moved["bytes"] = 0
        held.sum(WEIGHTS, found)
        summed = moved["bytes"]
        slopes = inner(held, seed)
        expected, sums = torch.tensor(WEIGHTS) @ exact, exact @ seed.double()
        read = {name: shape for name, shape in form.shapes().items() if name != "starts"}
        used = int((WEIGHTS != 0).sum()) + isinstance(form, StepsForm)
        once = sum(
            shape.nbytes if name == "seed" else shape.nbytes // shape.rows * used for name, shape in read.items()
        )
        line = {
            "form": "-".join(map(str, form.digest_parts.values())),
            "kernel": held.kernel is not None,
            "error": float((found - expected).norm() / expected.norm()),
            "slope_error": float(np.abs(slopes - sums.numpy()).max() / sums.abs().max()),
            "moved": summed,
            "ideal": once + found.nbytes,
            "moved_by_slopes": moved["bytes"] - summed,
            "ideal_of_slopes": sum(shape.nbytes for shape in read.values()) + seed.nbytes,
        }
        print(json.dumps(line))


def far() -> None:
    """Sum the last values of the last of 17 members of 2^27 values, in bfloat16 and in int8."""
    from objectives.merging.members import kernel
    from objectives.merging.members.form import FlatLayout, Matrix

    members, rows, width = 17, 2**14, 2**13
    size, kernel.BLOCK_BYTES, kernel.TILE = rows * width, 2**21, (128, width)
    layout = FlatLayout({"one": Matrix(slice(0, size), width, 0)}, size, rows)
    weights, ends = np.zeros(members), np.array([1.0, 2.0, -3.0], np.float32)
    weights[-1] = 0.5
    whole = torch.from_numpy(np.zeros((members, size), np.int16)).view(torch.bfloat16)
    codes = torch.from_numpy(np.zeros((1 + members, size), np.int8))
    for values in (whole, codes):
        values[-1, -3:] = torch.from_numpy(ends).to(values.dtype)
    out = torch.from_numpy(np.zeros(size, np.float32))
    for made in (kernel.of_whole(whole), kernel.of_steps(codes, torch.ones(1 + members, rows).bfloat16(), layout)):
        made.sum(weights, out.zero_())
        print(json.dumps({"values": members * size, "ends": out[-3:].tolist(), "marked": int((out != 0).sum())}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    far() if "far" in sys.argv else every_form()
