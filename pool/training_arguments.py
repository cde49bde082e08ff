"""A recipe in the words of transformers' `Trainer`."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from pool.config.recipe import Recipe

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}
_COSINE_FLOOR = 0.1
_SHARDED: dict[str, Any] = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT"},
    "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
}
"""Gradients are cut into shards after each part of a batch, not kept whole until the last one."""


def training_arguments(recipe: Recipe, steps: int, scratch: Path, part: int) -> TrainingArguments:
    """Translate a recipe for a run of so many `steps`, `part` windows of a batch at a time in each process."""
    early, processes = recipe.early_stopping, recipe.fsdp or 1
    logging_steps = max(1, steps // 10)
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=part,
        gradient_accumulation_steps=recipe.batch_windows // (part * processes),
        activation_checkpointing=recipe.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if recipe.gradient_checkpointing else None,
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
        save_steps=early.every_steps if early else recipe.checkpoint_steps,
        save_total_limit=1,
        eval_strategy="steps" if early else "no",
        eval_steps=early.every_steps if early else None,
        load_best_model_at_end=early is not None,
        metric_for_best_model="loss" if early else None,
        greater_is_better=False if early else None,
        restore_callback_states_from_checkpoint=early is not None,
        logging_steps=min(logging_steps, early.every_steps) if early else logging_steps,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        **(_SHARDED if processes > 1 else {}),
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # else Trainer would multiply the batch, and with it the tokens read, by the GPUs it sees
    return arguments
