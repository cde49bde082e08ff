"""The verb `bench gpu`: whether merging, scoring and training reach their targets on one GPU.

Parts run one after the other in processes of their own, each with a time limit, so a part that hangs or breaks the GPU
costs that part alone. Models and text are random: timings do not depend on them.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from objectives.held_out import Precision
from objectives.merging.members.form import FlatLayout, Form, inner
from objectives.merging.members.pruned import PrunedForm
from objectives.merging.members.steps import StepsForm
from objectives.merging.members.whole import WholeForm
from objectives.merging.merge import StackedPool
from objectives.scoring import scorer as scoring
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import new_model
from pool.checkpoints.forward import rounding
from pool.config.recipe import ModelShape, Recipe
from pool.engines.devices import known_gpus
from pool.engines.group import run_limited
from pool.errors import ConfigError, PoolError
from pool.files.whole import write_text, writing_to
from pool.progress import duration, heard_by, say
from studies.benchmarks.evaluation.memory import errors_of, random_members, random_text
from studies.benchmarks.ratio import Figure, GpuFigures, seconds
from studies.benchmarks.training import SHAPE_130M, VOCABULARY_130M, flops_per_token, timed_rounds
from studies.terminal import json_text, quiet_libraries

LONGEST_SECONDS = 470.0
"""Of all parts together: with the start of the command, eight minutes."""
PEAK_TERAFLOPS = {"H100 80GB HBM3": 989.0, "H200": 989.0, "A100-SXM": 312.0}
"""Dense bfloat16 peaks by a part of the GPU's name; other GPUs are judged by their measured products."""
MERGE_ERROR, COPY_SHARE, PEAK_SHARE, BARE_SHARE, NATS_OFF = 1e-6, 0.7, 0.45, 0.95, 1e-3
CAP_BYTES = 12e9
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Sizes:
    """How much the parts do.

    copied, side: values of a copy, and side of a square product
    counts, values: members and their values for exactness; `members` of the model's shape for timings
    windows, steps, batch: windows scored, steps trained, and windows of a step
    crowd: windows too many at once for the memory of the last part
    """

    copied: int
    side: int
    counts: tuple[int, ...]
    values: int
    members: int
    shape: ModelShape
    vocabulary: int
    windows: int
    steps: int
    batch: int
    crowd: int
    repeats: int


FULL = Sizes(2**31, 8192, (16, 17, 32), 2**27, 32, SHAPE_130M, VOCABULARY_130M, 512, 300, 16, 512, 5)
_TINY_SHAPE = ModelShape(hidden_size=16, layers=1, attention_heads=2, intermediate_size=24, context=8)
TINY = Sizes(2**12, 16, (2, 3), 2**10, 3, _TINY_SHAPE, 32, 4, 2, 2, 4, 1)


@dataclass(frozen=True)
class Bench:
    """Where a part runs, and how much of it."""

    sizes: Sizes
    device: torch.device

    def seconds(self, action: Callable[[], object]) -> float:
        """Return the median time of an action on the device, after two that are not timed."""

        def whole() -> None:
            action()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return median([seconds(whole) for _ in range(2 + self.sizes.repeats)][2:])

    def copy_rate(self) -> float:
        """Return the bytes that a copy reads and writes a second."""
        source = torch.zeros(self.sizes.copied, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self.seconds(lambda: target.copy_(source))

    def product_flops(self, dtype: torch.dtype) -> float:
        """Return the operations a second of a square product."""
        one, other = torch.randn(2, self.sizes.side, self.sizes.side, device=self.device, dtype=dtype)
        return 2 * self.sizes.side**3 / self.seconds(lambda: one @ other)

    def peak_flops(self) -> float:
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        known = [peak * 1e12 for part, peak in PEAK_TERAFLOPS.items() if part in name]
        return known[0] if known else self.product_flops(torch.bfloat16)

    def model(self) -> PreTrainedModel:
        model = new_model(self.sizes.shape, self.sizes.vocabulary, initial_seed=0)
        torch.nn.Module.to(model, self.device)
        return model

    def text(self, windows: int) -> WindowTable:
        return random_text(windows, self.sizes.shape.context, self.sizes.vocabulary)


def ceilings(bench: Bench) -> Iterator[Figure]:
    """Measure what the device can do at most."""
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "a CPU, tiny sizes"
    yield Figure("ceilings", "device", note=f"{name}, PyTorch {torch.__version__}")
    yield Figure("ceilings", "copy", bench.copy_rate() / 1e9, "GB/s")
    for precision in PRECISIONS:
        with rounding(bench.device, precision):
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            yield Figure("ceilings", f"product, {precision}", bench.product_flops(dtype) / 1e12, "teraflops")


def exactness(bench: Bench) -> Iterator[Figure]:
    """Compare merges of pools around and beyond 2^31 values with float64."""
    start = torch.zeros(bench.sizes.values, device=bench.device)
    for count in bench.sizes.counts:
        members = random_members(WholeForm(count, len(start), torch.float32, torch.float32), count, start, 1.0)
        name = f"error, {count} members of {len(start):,} values"
        yield Figure("exactness", name, errors_of(members, start)[0], most=MERGE_ERROR)
        del members


def merge(bench: Bench) -> Iterator[Figure]:
    """Time merges and pulls of a gradient in every form, beside a copy, and compare them with float64."""
    layout, count, figure = FlatLayout.of(bench.model()), bench.sizes.members, partial(Figure, "merge")
    seed, copied = torch.randn(layout.size, device=bench.device), bench.copy_rate()
    out, even = torch.zeros_like(seed), np.full(count, 1 / count)
    forms: dict[str, Form] = {
        "float32": WholeForm(count, layout.size, torch.float32, torch.float32),
        "bfloat16": WholeForm(count, layout.size, torch.bfloat16, torch.float32),
        "int8": StepsForm(count, layout, seed),
        "pruned float32": PrunedForm(count, layout, seed, 0.5, torch.float32),
        "pruned int8": PrunedForm(count, layout, seed, 0.5, torch.int8),
    }
    for name, form in forms.items():
        members = random_members(form, count, seed)
        moved = members.nbytes + out.nbytes
        summing = bench.seconds(partial(members.sum, even, out))
        pulling = bench.seconds(partial(inner, members, seed))
        yield figure(name, 1e3 * summing, "ms")
        yield figure(f"{name}, bytes a second over a copy's", moved / summing / copied, least=COPY_SHARE)
        yield figure(f"{name}, gradient pulled", 1e3 * pulling, "ms")
        yield figure(f"{name}, gradient pulled, over a copy's", moved / pulling / copied)
        for what, error in zip(("merge", "pull"), errors_of(members, seed), strict=True):
            yield figure(f"{name}, error of a {what}", error, most=MERGE_ERROR)
        del members


def score(bench: Bench) -> Iterator[Figure]:
    """Score text in every precision, plain and compiled: speed, utilisation, nats off float32, and repeats."""
    model, table = bench.model(), bench.text(bench.sizes.windows)
    figure, tokens, peak = partial(Figure, "score"), table.inputs.size, bench.peak_flops()
    flops = flops_per_token(model, bench.sizes.shape.context) / 3 * tokens
    exact = Scorer(model, table).score().sum()
    for number, precision in enumerate((*PRECISIONS, PRECISIONS[-1])):
        compiled = number == len(PRECISIONS)
        scorer, name = Scorer(model, table, precision=precision, compiled=compiled), precision + ", compiled" * compiled
        took = bench.seconds(scorer.score)
        once, again = scorer.score(), scorer.score()
        yield figure(name, tokens / took, "tokens/s")
        yield figure(f"{name}, share of the peak", flops / took / peak, least=PEAK_SHARE if compiled else None)
        yield figure(f"{name}, off float32", abs(float(once.sum() - exact)) / tokens, "nats", most=NATS_OFF)
        yield figure(f"{name}, off in a second run", float(np.abs(once - again).max()), "nats", most=0.0)
    if bench.device.type == "cuda":
        yield figure("memory", torch.cuda.max_memory_allocated() / 1e9, "GB")


def gradient(bench: Bench) -> Iterator[Figure]:
    """Time an evaluation with the gradient in the merge weights over an evaluation without."""
    table = bench.text(max(1, bench.sizes.windows // 8))
    with tempfile.TemporaryDirectory() as name:
        bench.model().save_pretrained(name)
        stacked = StackedPool({"one": Path(name), "other": Path(name)}, device=str(bench.device))
    for precision in PRECISIONS:
        scorer = Scorer(stacked.model, table, precision=precision)
        sloped = partial(scorer.score_with_jacobian, stacked.flat_gradient(), stacked.weight_gradient)
        ratio = bench.seconds(sloped) / bench.seconds(scorer.score)
        yield Figure("gradient", f"{precision}, time over that without gradient", ratio)


def training(bench: Bench) -> Iterator[Figure]:
    """Time members' training beside a bare loop, in bfloat16, plain and compiled, without checkpoints."""
    sizes, context = bench.sizes, bench.sizes.shape.context
    text = {"random": np.random.default_rng(1).integers(sizes.vocabulary, size=2**20, dtype=np.int32)}
    start, batch = new_model(sizes.shape, sizes.vocabulary, initial_seed=0), sizes.batch
    for compiled in (False, True):
        runs = [
            Recipe(tokens=steps * batch * context, batch_windows=batch, precision="bfloat16", compiled=compiled)
            for steps in (2, sizes.steps)
        ]
        _, (ours, bare) = timed_rounds(start, text, runs, context=context)
        name = "bfloat16" + ", compiled" * compiled
        yield Figure("training", name, runs[-1].windows(context) * context / ours, "tokens/s")
        yield Figure("training", f"{name}, speed over a bare loop's", bare / ours, least=BARE_SHARE)


def memory(bench: Bench) -> Iterator[Figure]:
    """Score more at once than memory holds: on a GPU under a cap, on a CPU by an error of our own."""
    model, table = bench.model(), bench.text(bench.sizes.crowd)
    expected, most = Scorer(model, table).score(), table.inputs.size // 2
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_BYTES / torch.cuda.mem_get_info()[1]))
    else:
        model.base_model.register_forward_pre_hook(partial(_refuse, most), with_kwargs=True)
    scoring.TOKENS_AT_ONCE[bench.device.type] = scoring.HIDDEN_VALUES_AT_ONCE[bench.device.type] = 2**62
    found: list[str] = []
    with heard_by(found.append):
        scored = Scorer(model, table).score()
    yield Figure("memory", "times that memory ran out", float(len(found)), least=1.0)
    off = float(np.abs(scored - expected).sum()) / table.inputs.size
    yield Figure("memory", "losses after that, off", off, "nats", most=NATS_OFF)


def _refuse(most: int, _: torch.nn.Module, __: tuple[Any, ...], given: dict[str, Any]) -> None:
    if given["input_ids"].numel() > most:
        raise torch.OutOfMemoryError("out of memory, as asked for by the benchmark")


PARTS: dict[str, tuple[float, Callable[[Bench], Iterator[Figure]]]] = {
    "ceilings": (40, ceilings),
    "exactness": (60, exactness),
    "merge": (130, merge),
    "score": (130, score),
    "gradient": (60, gradient),
    "training": (170, training),
    "memory": (40, memory),
}
"""Seconds that a part may take, and the part."""


def run_gpu(*, tiny: bool, file: Path | None = None) -> GpuFigures:
    """Run all parts, and write all figures so far to a file after each. Raises `ConfigError` without a GPU.

    `tiny` runs every part on a CPU with tiny sizes, to see them work.
    """
    if not tiny and known_gpus() == ():
        raise ConfigError("bench gpu measures a GPU, and PyTorch sees none here: --tiny runs its parts on the CPU")
    begun, found = time.monotonic(), GpuFigures(not tiny, ())
    for part, (longest, _) in PARTS.items():
        left = LONGEST_SECONDS - (time.monotonic() - begun)
        say(f"{part}: {duration(min(longest, left))} at most")
        for figure in _figures(part, tiny, min(longest, left)):
            found = GpuFigures(not tiny, (*found.figures, figure))
            if file is not None:
                with writing_to(file):
                    write_text(file, json_text(found))
    return found


def _figures(part: str, tiny: bool, longest: float) -> Iterator[Figure]:
    try:
        yield from run_limited(partial(_work, part, tiny), longest, forked=tiny and sys.platform == "linux")
    except PoolError as error:
        yield Figure(part, "ended early", note=str(error))


def _work(part: str, tiny: bool, send: Callable[[Figure], None]) -> None:
    quiet_libraries()
    if tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.compiler.set_stance("force_eager")  # to compile would take longer than all the rest
    bench = Bench(TINY, torch.device("cpu")) if tiny else Bench(FULL, torch.device("cuda"))
    for figure in PARTS[part][1](bench):
        send(figure)
