"""The verb `bench training`: throughput of a member's training over a bare PyTorch loop's.

Model, windows, AdamW, schedule, clipping and dtype are equal, and neither side saves: the difference is the cost of
`Trainer`.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel, get_scheduler

from pool.building.training.inputs import RunInputs, TrainingWindows, training_windows
from pool.building.training.train import train
from pool.checkpoints.checkpoint import load_model, new_model
from pool.checkpoints.forward import compiled, rounding
from pool.config.recipe import ModelShape, Recipe
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track
from pool.tokens.held_out import Tokens
from studies.benchmarks.ratio import Ratio, seconds

SHAPE_130M = ModelShape(
    hidden_size=768, layers=12, attention_heads=12, intermediate_size=2048, context=1024, tie_embeddings=False
)
VOCABULARY_130M = 32_000
"""With untied embeddings about 134 million parameters."""

STEPS = {"cpu": 50, "cuda": 300}
"""Optimiser steps of a timed run: a GPU takes the first ones to start, and does the others in seconds."""


@dataclass(frozen=True)
class Speed:
    """The throughput of a timed training.

    tokens: of one run
    tokens_per_second, bare_tokens_per_second: of the median runs
    ratio: over the bare loop's throughput, paired
    utilisation: model FLOPs over `peak_teraflops`; None without a peak
    """

    parameters: int
    device: str
    precision: str
    tokens: int
    tokens_per_second: float
    bare_tokens_per_second: float
    ratio: Ratio
    peak_teraflops: float | None
    utilisation: float | None


@dataclass(frozen=True)
class TrainingRequest:
    """Optimiser steps of a run, and paired rounds after an untimed one.

    Without `steps` there are as many as make the start of a run a small part of its time.
    """

    steps: int | None
    repeats: int
    is_130m: bool = False
    peak_teraflops: float | None = None


def run_training(pool: Pool, wanted: TrainingRequest) -> Speed:
    """Time the pool's recipe without options beyond a bare loop. Raises `ConfigError`."""
    if pool.config.recipe.lora is not None:
        raise ConfigError("bench training compares full training: take [recipe.lora] out of the pool file")
    context, streams = SHAPE_130M.context if wanted.is_130m else pool.config.context, pool.corpus.train
    long = [name for name, stream in streams.items() if len(stream) >= context]
    if not long:
        raise ConfigError(
            f"no partition of pool {pool.config.name!r} has {context} training tokens: time a larger pool"
        )
    steps = wanted.steps or STEPS["cuda" if torch.cuda.is_available() else "cpu"]
    recipe = _plain(pool.config.recipe, steps, context)
    seed = pool.folder / "seed"
    start = new_model(SHAPE_130M, VOCABULARY_130M, initial_seed=0) if wanted.is_130m else load_model(seed)
    ours, bare = [], []
    with track("training timed", wanted.repeats + 1) as show:
        read, recipes = {name: streams[name] for name in long}, [recipe] * (wanted.repeats + 1)
        for number, (first, second) in enumerate(timed_rounds(start, read, recipes, context=context)):
            if number:
                ours.append(first)
                bare.append(second)
            show(number + 1, f"bare over ours {second / first:.3f}")
    tokens = recipe.windows(context) * context
    speed, peak = tokens / Ratio.of(ours).median, wanted.peak_teraflops
    return Speed(
        parameters=sum(parameter.numel() for parameter in start.parameters()),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        precision=recipe.precision,
        tokens=tokens,
        tokens_per_second=speed,
        bare_tokens_per_second=tokens / Ratio.of(bare).median,
        ratio=Ratio.of([slow / fast for slow, fast in zip(bare, ours, strict=True)]),
        peak_teraflops=peak,
        utilisation=speed * flops_per_token(start, context) / (peak * 1e12) if peak else None,
    )


def timed_rounds(
    start: PreTrainedModel, streams: Mapping[str, Tokens], recipes: Sequence[Recipe], *, context: int
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of members' training and of a bare loop, for each recipe; the first round warms up."""
    for number, recipe in enumerate(recipes):
        times = {}
        for train_by in (_by_trainer, _by_loop) if number % 2 else (_by_loop, _by_trainer):
            # alternated, so that a machine that warms up or slows down favours neither
            times[train_by] = _timed(start, partial(train_by, streams, recipe, context))
        yield times[_by_trainer], times[_by_loop]


def _by_trainer(streams: Mapping[str, Tokens], recipe: Recipe, context: int, model: PreTrainedModel) -> None:
    mixture, inputs = Mixture.uniform(list(streams)), RunInputs(saves=False)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "run"
        train(model, streams, mixture, recipe, scratch=scratch, label="timed", context=context, inputs=inputs)


def _by_loop(streams: Mapping[str, Tokens], recipe: Recipe, context: int, model: PreTrainedModel) -> None:
    windows = training_windows(streams, Mixture.uniform(list(streams)), recipe, context)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with rounding(device, recipe.precision), compiled(model, recipe.compiled):
        bare_loop(model, windows, recipe, device)


def flops_per_token(model: PreTrainedModel, context: int) -> float:
    """Count the model FLOPs a token: 6 P + 12 layers x width x T, P without an untied input embedding.

    Recomputed activations do not count (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B).
    """
    config, table = model.config, cast(torch.nn.Embedding, model.get_input_embeddings()).weight
    weights = sum(parameter.numel() for parameter in model.parameters())
    if not config.tie_word_embeddings:
        weights -= table.numel()  # a look-up is no multiplication; a tied table is the output head too
    return 6 * weights + 12 * int(config.num_hidden_layers) * int(config.hidden_size) * context


def _plain(recipe: Recipe, steps: int, context: int) -> Recipe:
    """Keep batch, optimiser, schedule, clipping and precision."""
    kept = recipe.model_dump(
        include={
            "batch_windows",
            "learning_rate",
            "schedule",
            "warmup_share",
            "weight_decay",
            "clip_norm",
            "precision",
            "compiled",
        }
    )
    tokens = steps * recipe.batch_windows * context
    return Recipe.model_validate({**kept, "tokens": tokens, "checkpoint_steps": steps + 1})


def bare_loop(model: PreTrainedModel, windows: TrainingWindows, recipe: Recipe, device: torch.device) -> None:
    """Train in place as anyone would, and end on the CPU."""
    torch.nn.Module.to(model, device).train(True)
    norms = {name for name, _ in model.named_parameters() if "norm" in name}
    groups = [
        {
            "params": [tensor for name, tensor in model.named_parameters() if (name in norms) == is_norm],
            "weight_decay": 0.0 if is_norm else recipe.weight_decay,
        }
        for is_norm in (False, True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
    steps = len(windows) // recipe.batch_windows
    schedule = _schedule(optimizer, recipe, steps)
    for step in range(steps):
        rows = range(step * recipe.batch_windows, (step + 1) * recipe.batch_windows)
        batch = torch.stack([torch.from_numpy(windows[row]) for row in rows]).to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    torch.nn.Module.to(model, "cpu").train(False)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    names = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}
    floor = {"min_lr_rate": 0.1} if recipe.schedule == "cosine" else {}
    warmup = round(recipe.warmup_share * steps)
    made: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
        names[recipe.schedule], optimizer, warmup, steps, scheduler_specific_kwargs=floor
    )
    return made


def _timed(start: PreTrainedModel, run: Callable[[PreTrainedModel], None]) -> float:
    model = type(start)(start.config)
    model.load_state_dict(start.state_dict())
    return seconds(lambda: run(model))
