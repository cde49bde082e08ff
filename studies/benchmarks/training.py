"""The verb `bench training`: how fast members are trained, against a bare PyTorch loop, side by side in one run.

Both train the same model on the same windows in the same order with the same AdamW, schedule, clipping and dtype. The
bare loop has no checkpoints, no logging, no accelerate: what is left over is what `Trainer` costs.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel, get_scheduler

from pool.checkpoints.checkpoint import load_model, new_model
from pool.config.recipe import ModelShape, Recipe
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track
from pool.training.train import train
from pool.training.windows import TrainingWindows, training_windows
from studies.benchmarks.ratio import Ratio, seconds

SHAPE_130M = ModelShape(
    hidden_size=768, layers=12, attention_heads=12, intermediate_size=2048, context=1024, tie_embeddings=False
)
VOCABULARY_130M = 32_000
"""With untied embeddings about 134 million parameters."""


@dataclass(frozen=True)
class Speed:
    """What a timed training run was, and how fast.

    `ratio` is the throughput of a member's training over the bare loop's, paired; tokens per second are those of the
    medians' rounds. `utilisation` is the share of `peak_teraflops` that the members' model FLOPs are (PaLM, appendix B:
    6 P + 12 layers x width x T a token, P without the input embedding); None where no peak was given.
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

    def as_json(self) -> dict[str, object]:
        """Give what `bench training --json` prints of it."""
        return dict(asdict(self))


@dataclass(frozen=True)
class TrainingRequest:
    """What is timed: `steps` optimiser steps, `repeats` paired rounds after one untimed, the pool's model or 130M."""

    steps: int
    repeats: int
    is_130m: bool = False
    peak_teraflops: float | None = None


def run_training(pool: Pool, wanted: TrainingRequest) -> Speed:
    """Measure the pool's recipe without the options that a bare loop has not. Raises `ConfigError` where it cannot."""
    if pool.config.recipe.lora is not None:
        raise ConfigError("bench training compares full training: take [recipe.lora] out of the pool file")
    context = SHAPE_130M.context if wanted.is_130m else pool.config.context
    mixture = _readable(pool, context)
    start = _start(pool, is_130m=wanted.is_130m)
    recipe = _plain(pool.config.recipe, wanted.steps, context)
    windows = training_windows(pool.corpus.train, mixture, recipe, context)
    ours, bare = [], []
    with track("training timed", wanted.repeats + 1) as show:
        for round_number in range(wanted.repeats + 1):
            timed = [lambda: _member(pool, mixture, start, recipe, context), lambda: _bare(start, windows, recipe)]
            if round_number % 2:  # alternated, so that a machine that warms up or slows down favours neither
                second, first = _timed(timed[1]), _timed(timed[0])
            else:
                first, second = _timed(timed[0]), _timed(timed[1])
            if round_number:
                ours.append(first)
                bare.append(second)
            show(round_number + 1, f"bare over ours {second / first:.3f}")
    return _found(start, recipe, windows, wanted, ours, bare)


def _found(
    start: PreTrainedModel,
    recipe: Recipe,
    windows: TrainingWindows,
    wanted: TrainingRequest,
    ours: list[float],
    bare: list[float],
) -> Speed:
    ratio = Ratio.of([slow / fast for slow, fast in zip(bare, ours, strict=True)])
    speed = windows.tokens / Ratio.of(ours).median
    peak = wanted.peak_teraflops
    return Speed(
        parameters=sum(parameter.numel() for parameter in start.parameters()),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        precision=recipe.precision,
        tokens=windows.tokens,
        tokens_per_second=speed,
        bare_tokens_per_second=windows.tokens / Ratio.of(bare).median,
        ratio=ratio,
        peak_teraflops=peak,
        utilisation=speed * flops_per_token(start, windows.context) / (peak * 1e12) if peak else None,
    )


def flops_per_token(model: PreTrainedModel, context: int) -> float:
    """Count the model FLOPs of a token's forward and backward pass; what is computed again is not counted."""
    config, table = model.config, cast(torch.nn.Embedding, model.get_input_embeddings()).weight
    weights = sum(parameter.numel() for parameter in model.parameters())
    if not config.tie_word_embeddings:
        weights -= table.numel()  # reading a row of a table is no multiplication; a tied table is the output head too
    return 6 * weights + 12 * int(config.num_hidden_layers) * int(config.hidden_size) * context


def _start(pool: Pool, *, is_130m: bool) -> PreTrainedModel:
    return new_model(SHAPE_130M, VOCABULARY_130M, initial_seed=0) if is_130m else load_model(pool.folder / "seed")


def _plain(recipe: Recipe, steps: int, context: int) -> Recipe:
    """Keep batch, optimizer, schedule, clipping and precision, for so many steps without a checkpoint but the last."""
    kept = recipe.model_dump(
        include={"batch_windows", "learning_rate", "schedule", "warmup_share", "weight_decay", "clip_norm", "precision"}
    )
    tokens = steps * recipe.batch_windows * context
    return Recipe.model_validate({**kept, "tokens": tokens, "checkpoint_steps": steps + 1})


def _readable(pool: Pool, context: int) -> Mixture:
    """Weigh alike the partitions that have a window of so many tokens."""
    long = [name for name, stream in pool.corpus.train.items() if len(stream) >= context]
    if not long:
        raise ConfigError(
            f"no partition of pool {pool.config.name!r} has {context} training tokens: time a larger pool"
        )
    return Mixture.uniform(long)


def _member(pool: Pool, mixture: Mixture, start: PreTrainedModel, recipe: Recipe, context: int) -> Callable[[], object]:
    model = _copy(start)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder) / "run"
            train(model, pool.corpus.train, mixture, recipe, scratch=scratch, label="timed", context=context)

    return run


def _bare(start: PreTrainedModel, windows: TrainingWindows, recipe: Recipe) -> Callable[[], object]:
    model = _copy(start)

    def run() -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        bare_loop(model, windows, recipe, device)

    return run


def bare_loop(model: PreTrainedModel, windows: TrainingWindows, recipe: Recipe, device: torch.device) -> None:
    """Train in place as anyone would write it; it ends on the CPU, as a member's training does."""
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


def _copy(start: PreTrainedModel) -> PreTrainedModel:
    model = type(start)(start.config)
    model.load_state_dict(start.state_dict())
    return model


def _timed(prepare: Callable[[], Callable[[], object]]) -> float:
    """Time what `prepare` made ready, without its making."""
    return seconds(prepare())
