"""The one training path: seed, members and confirmation runs all go through `train`.

transformers' `Trainer` does the work. A run that is killed goes on from its last checkpoint in `scratch`, and
ends with the same parameters as an undisturbed run (the order of windows is fixed, there is no dropout).
Bit-for-bit equality holds on one machine with one number of threads; elsewhere, and where memory was too small for
whole batches, sums are in another order.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pool.checkpoint import check_finite
from pool.errors import PoolError
from pool.memory import give_back_memory, is_out_of_memory, smaller_part
from pool.mixture import Mixture
from pool.progress import Advance, say, track
from pool.recipe import Recipe
from pool.tokens import Tokens
from pool.windows import TrainingWindows, training_windows

_STATE = "trainer_state.json"
_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}
_COSINE_FLOOR = 0.1


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run did: tokens read, mean training loss of about its last tenth (nats), seconds of this call."""

    tokens: int
    final_loss_nats: float
    seconds: float


class _Windows(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, windows: TrainingWindows) -> None:
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = torch.from_numpy(self._windows[index])
        return {"input_ids": window, "labels": window}


class _Watch(TrainerCallback):
    """Shows progress, and keeps the losses that Trainer logs."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._note = ""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._advance(state.global_step, self._note)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if "loss" in state.log_history[-1]:
            self._note = f"loss {state.log_history[-1]['loss']:.3f}"


def train(
    model: PreTrainedModel,
    train_tokens: Mapping[str, Tokens],
    mixture: Mixture,
    recipe: Recipe,
    *,
    scratch: Path,
    label: str,
    context: int | None = None,
) -> TrainingOutcome:
    """Train `model` in place on `mixture` of the partitions' tokens, by `recipe`.

    The window length is `context`, or the model's own. `scratch` holds checkpoints to go on from; `discard_scratch`
    removes it once the outcome is safe. Where memory is too small for a batch, its gradient is summed over smaller
    parts; the optimiser's steps stay the same. Raises `PoolError` when the parameters end up non-finite, or when one
    window alone does not fit.
    """
    context = context or int(model.config.max_position_embeddings)
    windows = training_windows(train_tokens, mixture, recipe, context)
    started = time.monotonic()
    begun = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    part = recipe.batch_windows
    while (
        trainer := _trained(model, windows, _arguments(recipe, recipe.steps(context), scratch, part), label)
    ) is None:
        if part == 1:
            raise PoolError(f"{label}: no memory for one window of {context} tokens; take a smaller model or context")
        part = smaller_part(part, recipe.batch_windows)
        say(f"{label}: out of memory; trying {part} of {recipe.batch_windows} windows at a time")
        give_back_memory()
        model.zero_grad(set_to_none=True)
        model.load_state_dict(begun)
    torch.nn.Module.to(model, "cpu").train(False)
    check_finite(model, label, "a lower learning_rate is the usual remedy")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seconds = time.monotonic() - started
    return TrainingOutcome(windows.tokens, float(losses[-1]), seconds)


def _trained(
    model: PreTrainedModel, windows: TrainingWindows, arguments: TrainingArguments, label: str
) -> Trainer | None:
    """Train from the last checkpoint on; None when memory ran out, and the model is then half trained."""
    last = _last_whole_checkpoint(Path(arguments.output_dir or ""))
    with track(label, int(arguments.max_steps), done=_step_of(last)) as advance:
        watch = _Watch(advance)
        trainer = Trainer(model=model, args=arguments, train_dataset=_Windows(windows), callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
    return trainer


def _arguments(recipe: Recipe, steps: int, scratch: Path, part: int) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=recipe.batch_windows // part,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=_SCHEDULES[recipe.schedule],
        lr_scheduler_kwargs={"min_lr_rate": _COSINE_FLOOR} if recipe.schedule == "cosine" else {},
        warmup_steps=round(recipe.warmup_share * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip_norm,
        adam_beta2=0.95,
        bf16=recipe.precision == "bfloat16",
        seed=recipe.order_seed,
        train_sampling_strategy="sequential",
        save_steps=recipe.checkpoint_steps,
        save_total_limit=1,
        logging_steps=max(1, steps // 10),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else Trainer would multiply the batch, and with it the tokens read, by the GPUs it sees
    return arguments


def discard_scratch(scratch: Path) -> None:
    """Remove a run's checkpoints, their states first, so that a half-removed one is never taken for whole."""
    for state in scratch.glob(f"checkpoint-*/{_STATE}"):
        state.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _last_whole_checkpoint(scratch: Path) -> Path | None:
    """Find the newest checkpoint whose state, written last, is there; half-written ones are removed."""
    whole: list[Path] = []
    for folder in scratch.glob("checkpoint-*"):
        if _is_whole(folder):
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    return max(whole, key=_step_of, default=None)


def _is_whole(folder: Path) -> bool:
    try:
        json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
