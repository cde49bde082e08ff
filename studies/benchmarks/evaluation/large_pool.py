"""A pool of eight models of 98 million parameters, with random steps from a random seed: their size is real, no more.

What is timed does not depend on their values. What the loss of a random model says of errors is little: text is
predicted about as well as by guessing, before rounding and after.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from objectives.merging.merge import StackedPool
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model, new_model
from pool.config.recipe import ModelShape
from pool.tokens.held_out import HeldOutWindows
from studies.benchmarks.evaluation.memory import MemoryFigures, Workload, measure

SHAPE = ModelShape(hidden_size=768, layers=12, attention_heads=12, intermediate_size=2304, context=128)
VOCABULARY = 8192
MEMBERS = 8
STEP = 0.15
"""Norm of a task vector, as a share of the seed's: that of the demo's members."""
MIXTURES = 3
WINDOWS = 4


def run_large(repeats: int) -> MemoryFigures:
    """Make the pool in a temporary folder (3.5 GB), and measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new_model(SHAPE, VOCABULARY, initial_seed=0).save_pretrained(folder / "seed")
        folders = {f"m{number}": (_stepped(folder, number),) for number in range(MEMBERS)}
        weights = np.random.default_rng(0).dirichlet(np.ones(MEMBERS), size=MIXTURES)
        load = Workload("of random models", folders, folder / "seed", weights, _loss_of, merges_timed=1)
        return measure(load, repeats)


def _stepped(folder: Path, number: int) -> Path:
    model, generator = load_model(folder / "seed"), torch.Generator().manual_seed(number + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            size = STEP * parameter.norm() / parameter.numel() ** 0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    model.save_pretrained(folder / f"m{number}")
    return folder / f"m{number}"


def _loss_of(stacked: StackedPool) -> Callable[[], float]:
    shape = (WINDOWS, SHAPE.context)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, size=shape, dtype=np.int32)
    documents = np.arange(WINDOWS, dtype=np.int32)
    table = WindowTable.of(
        {"random": HeldOutWindows(tokens, tokens, documents, np.full(WINDOWS, tokens.size), WINDOWS)}, ["random"]
    )
    scorer = Scorer(stacked.model, table)
    return lambda: float(scorer.score().sum() / tokens.size)
