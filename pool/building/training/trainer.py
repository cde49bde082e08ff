"""transformers' `Trainer`, adapted to a recipe: its arguments, its callbacks, and some methods."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pool.building.training.inputs import NOTHING, RunInputs, TrainingWindows
from pool.building.training.placement import as_first_says, embeddings_frozen
from pool.building.training.run_files import DIGESTS, load_optimizer_state, record_files
from pool.building.training.seed_penalty import Penalty
from pool.checkpoints.checkpoint import parameters_of
from pool.checkpoints.forward import compiled, rounding
from pool.config.recipe import Recipe
from pool.progress import Advance


class FirstWindows(Dataset[dict[str, torch.Tensor]]):
    """The first `count` windows of a run: with more, Trainer takes an extra step when it resumes at its last."""

    def __init__(self, windows: TrainingWindows, count: int) -> None:
        self._windows, self._count = windows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = torch.from_numpy(self._windows[index])
        return {"input_ids": window, "labels": window}


class ShowProgress(TrainerCallback):
    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._note = ""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._advance(state.global_step, self._note)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if "loss" in state.log_history[-1]:
            self._note = f"loss {state.log_history[-1]['loss']:.3f}"


class ContinueOptimizer(TrainerCallback):
    def __init__(self, state: Path) -> None:
        self._state = state

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        if state.global_step == 0:
            load_optimizer_state(parts["optimizer"], parts["model"], self._state)


class RecipeTrainer(Trainer):
    def __init__(self, recipe: Recipe, inputs: RunInputs = NOTHING, **options: Any) -> None:
        self._recipe, self._inputs = recipe, inputs
        self._penalty: Penalty | None = None
        super().__init__(**options)
        if recipe.seed_penalty is not None:
            start = parameters_of(options["model"])
            self._penalty = Penalty(start, recipe.seed_penalty.strength, inputs.importance)

    def train(self, *arguments: Any, **options: Any) -> Any:
        model = cast(nn.Module, self.model)
        with (
            embeddings_frozen(model, self._recipe.frozen_embeddings),
            rounding(self.args.device, self._recipe.precision),
            compiled(model, self._recipe.compiled),
        ):
            return super().train(*arguments, **options)

    def create_accelerator_and_postprocess(self) -> None:
        """Shard without GPUs too; shards, and sums of gradients over them, are float32."""
        if self._recipe.fsdp and not torch.cuda.is_available():
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()
        if self._recipe.fsdp:
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[Any]:
        """Round the same products to bfloat16 with shards; accelerate would round all activations."""
        if self._recipe.fsdp and self._recipe.precision == "bfloat16":
            # no cache: it would hold all weights
            return torch.autocast(self.args.device.type, torch.bfloat16, cache_enabled=False)
        return super().autocast_smart_context_manager(cache_enabled)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Mix a teacher's probabilities into the loss of the text, where there is a teacher."""
        teacher = self._inputs.teacher
        if teacher is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        rounded = self._recipe.precision == "bfloat16"  # accelerate rounds the student's own passes alone
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=rounded):
            mixed = teacher.mixed(loss, outputs.logits, inputs["input_ids"], num_items_in_batch)
        return (mixed, outputs) if return_outputs else mixed

    def training_step(self, model: nn.Module, *arguments: Any, **options: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(model, *arguments, **options)
        # the penalty has a gradient only: the logged loss stays that of the text
        if self._penalty is not None and self.accelerator.sync_gradients:
            self._penalty.add_gradient(cast(nn.Module, self.model))
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the loss for early stopping: nats summed and divided once."""
        assert self._inputs.stopping is not None, "only a run that may stop early looks at held-out text"
        with self.autocast_smart_context_manager():
            nats = self._inputs.stopping.loss_nats(cast(PreTrainedModel, self.model))
        metrics = {"eval_loss": as_first_says(nats)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        super()._save_checkpoint(*arguments, **options)
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            record_files(folder, folder / DIGESTS)

    def _save_rng_state(self, output_dir: str) -> None:
        """Skip the state with shards: a kill could leave another process's half-written."""
        if not self._recipe.fsdp:
            super()._save_rng_state(output_dir)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Name the parameters under weight decay; a tied matrix is an embedding."""
        if self._recipe.decayed == "all":
            return [name for name, _ in model.named_parameters()]
        decayed: list[str] = super().get_decay_parameter_names(model)
        if self._recipe.decayed == "not-norms":
            return decayed
        modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        head = cast(PreTrainedModel, model).get_output_embeddings()  # type: ignore[no-untyped-call]
        tables = {id(module.weight) for module in (*modules, head) if module is not None}
        return [name for name, parameter in model.named_parameters() if name in decayed and id(parameter) not in tables]


_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine_with_min_lr"}
_COSINE_FLOOR = 0.1
_SHARDED: dict[str, Any] = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT"},
    "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
}
"""Gradients are sharded after each part of a batch; otherwise each process would keep them whole until the last."""


def training_arguments(
    recipe: Recipe, steps: int, scratch: Path, part: int, *, saves: bool = True
) -> TrainingArguments:
    """Translate a recipe for a run of `steps` steps; each process trains `part` windows of a batch at a time.

    A run that `saves` writes a checkpoint after its last step too.
    """
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
        save_strategy="steps" if saves else "no",
        save_steps=early.every_steps if early else recipe.checkpoint_steps,
        save_total_limit=2,  # a damaged one is put aside, and the one before taken
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
        arguments._n_gpu = 1  # else Trainer would multiply the batch by the visible GPUs
    return arguments
