"""Kernels of a GPU: right in every form, each byte read once, few launches, and a correct way without Triton."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import kernels_compiled
import kernels_interpreted
import numpy as np
import pytest
import torch

from objectives.merging.members import kernel
from objectives.merging.members.arrays import InMemory
from objectives.merging.members.form import MULTIPLIED_AT_ONCE, FlatLayout, Form, Matrix, inner
from objectives.merging.members.pruned import PrunedForm
from objectives.merging.members.steps import StepsForm
from objectives.merging.members.whole import WholeForm, WholeMembers

ROOT = Path(__file__).parents[3]
MEMBERS = 32
FLOAT32, BFLOAT16, INT8 = torch.float32, torch.bfloat16, torch.int8
FORMS = ["float32", "bfloat16", "int8", "pruned float32", "pruned int8"]
NEEDS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def of_134m() -> FlatLayout:
    """The layout of a Llama of 134 million parameters: two tables, and 12 layers with their norms."""
    shapes = [(32_000, 768)] * 2 + [(768, 768), (768, 768), (768, 768), (768, 768), *[(768, 2816)] * 3, (1, 768)] * 12
    matrices, start, row = {}, 0, 0
    for number, (rows, width) in enumerate(shapes):
        matrices[str(number)] = Matrix(slice(start, start + rows * width), width, row)
        start, row = start + rows * width, row + rows
    return FlatLayout(matrices, start, row)


def form_of(name: str, layout: FlatLayout, seed: torch.Tensor, count: int = MEMBERS) -> Form:
    return {
        "float32": lambda: WholeForm(count, layout.size, FLOAT32, FLOAT32),
        "bfloat16": lambda: WholeForm(count, layout.size, BFLOAT16, FLOAT32),
        "int8": lambda: StepsForm(count, layout, seed),
        "pruned float32": lambda: PrunedForm(count, layout, seed, 0.5, FLOAT32),
        "pruned int8": lambda: PrunedForm(count, layout, seed, 0.5, INT8),
    }[name]()


def run(script: str, *arguments: str, interpret: str = "0") -> list[dict[str, object]]:
    environment = {**os.environ, "TRITON_INTERPRET": interpret}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


@NEEDS_TRITON
def test_kernels_sum_as_float64_does_and_read_every_byte_once() -> None:
    found = run(kernels_interpreted.__file__, interpret="1")
    assert len(found) == 6
    for line in found:
        assert line["kernel"] and line["error"] < 1e-6 and line["slope_error"] < 1e-6, line
        assert line["moved"] <= 1.15 * line["ideal"], line
        assert line["moved_by_slopes"] <= 1.15 * line["ideal_of_slopes"], line


@NEEDS_TRITON
@pytest.mark.long
def test_kernels_reach_values_beyond_two_to_the_31() -> None:
    for line in run(kernels_interpreted.__file__, "far", interpret="1"):
        assert line["values"] > 2**31
        assert line["ends"] == [0.5, 1.0, -1.5] and line["marked"] == 3


@NEEDS_TRITON
def test_kernels_compile_for_a_gpu_and_whole_members_are_read_sixteen_bytes_at_a_time() -> None:
    found = {line["kernel"]: line for line in run(kernels_compiled.__file__)}
    assert len(found) == 10
    for name, line in found.items():
        assert line["spilled"] == 0, name
        assert name.startswith("pruned") or line["wide_loads"] >= 2, name


@pytest.mark.parametrize("name", FORMS)
def test_a_merge_of_a_large_pool_is_one_launch_over_arrays_of_the_members_bytes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = []
    monkeypatch.setattr(kernel, "usable", lambda values, computed: values is not None and computed == FLOAT32)
    monkeypatch.setattr(kernel, "launch", lambda function, programs, given, constants: launches.append(given))
    layout, meta = of_134m(), torch.device("meta")
    seed = torch.empty(layout.size, device=meta)
    form = form_of(name, layout, seed)
    arrays = {
        array: InMemory(torch.empty(shape.rows, shape.columns, dtype=shape.dtype, device=meta), meta)
        for array, shape in form.shapes().items()
    }
    members, out = form.held(arrays), torch.empty(layout.size, device=meta)
    members.sum(np.full(MEMBERS, 1 / MEMBERS), out)
    members.kernel.inner(out)
    summed, pulled = launches
    assert MEMBERS * layout.size > 2**31
    for given in (summed, pulled):
        once = {id(one): one.nbytes for one in given if isinstance(one, torch.Tensor)}
        assert sum(once.values()) <= 1.15 * (members.nbytes + out.nbytes)


def test_without_triton_members_are_summed_row_by_row_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernel, "triton", None)
    kernel._tried.cache_clear()
    assert [kernel._tried(torch.device("cpu")) for _ in range(2)] == [False, False]
    kernel._tried.cache_clear()
    said = "no Triton kernel here (Triton is not installed): members are summed row by row, as exactly and more slowly"
    assert capsys.readouterr().err.count(said) == 1
    assert not kernel.usable(torch.zeros(1, 2), FLOAT32), "a CPU keeps its own sums"
    assert not kernel.usable(None, FLOAT32), "members elsewhere than on the device have no kernel"


def test_no_product_on_a_gpu_is_over_two_to_the_31_values() -> None:
    meta = torch.device("meta")
    for count, size in ((17, 2**27), (3, 2**31)):
        values = torch.empty(count, size, device=meta)
        members = WholeMembers(WholeForm(count, size, FLOAT32, FLOAT32), InMemory(values, meta))
        part, block = next(members.blocks())
        assert block.shape == (count, part.stop) and block.numel() <= MULTIPLIED_AT_ONCE
        assert block.stride(0) <= MULTIPLIED_AT_ONCE


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8"])
def test_a_gpu_sums_more_than_two_to_the_31_values_as_float64_does(name: str) -> None:
    count, device, size = 17, torch.device("cuda"), 2**27
    layout = FlatLayout({"one": Matrix(slice(0, size), 1024, 0)}, size, size // 1024)
    form = form_of(name, layout, torch.empty(size, device=device), count)
    arrays = {}
    for array, shape in form.shapes().items():
        values = torch.empty(shape.rows, shape.columns, dtype=shape.dtype, device=device)
        for row in values:
            row.copy_(torch.randn(shape.columns, device=device).mul_(20))
        arrays[array] = InMemory(values, device)
    members, weights = form.held(arrays), np.random.default_rng(0).dirichlet(np.ones(count))
    out, exact = torch.empty(size, device=device), torch.zeros(size, dtype=torch.float64, device=device)
    slopes = np.zeros(count)
    members.sum(weights, out)
    for part, values in members.blocks(2**24):
        exact[part] = torch.tensor(weights, device=device) @ values.double()
        slopes += (values.double() @ out[part].double()).cpu().numpy()
    assert members.kernel is not None
    assert float((out - exact).norm() / exact.norm()) < 1e-6
    assert inner(members, out) == pytest.approx(slopes, rel=1e-5, abs=1e-6 * math.sqrt(size))
