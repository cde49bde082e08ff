"""transformers' `Trainer` with what a recipe asks of it beyond its arguments."""

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from pool.checkpoint import parameters_of
from pool.needs import NOTHING, Needs
from pool.optimizer_state import load_optimizer_state
from pool.penalty import Penalty
from pool.recipe import Recipe


class RecipeTrainer(Trainer):
    """A `Trainer` that follows a recipe; everything that is not overridden here is transformers' own."""

    def __init__(self, recipe: Recipe, needs: Needs = NOTHING, **options: Any) -> None:
        self._recipe, self._needs = recipe, needs
        self._penalty: Penalty | None = None
        super().__init__(**options)
        if recipe.seed_penalty is not None:
            start = parameters_of(options["model"])
            self._penalty = Penalty(start, recipe.seed_penalty.strength, needs.importance)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, going on with the seed's state where asked; a checkpoint's is put over it later."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self._needs.optimizer is not None:
            load_optimizer_state(optimizer, cast(nn.Module, model or self.model), self._needs.optimizer)
        return optimizer

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """Add the pull back to the seed, its gradient alone: the losses logged stay those of the text."""
        loss: Any = super().compute_loss(model, inputs, *arguments, **options)
        if self._penalty is None:
            return loss
        # where the model divides its loss by the tokens of the whole batch, Trainer divides by the parts no more
        parts = self.current_gradient_accumulation_steps if self.model_accepts_loss_kwargs else 1
        pull = self._penalty.nats(model) / parts
        return loss + (pull - pull.detach())

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the loss that early stopping goes by: nats summed and divided once, not a mean of batches' means."""
        assert self._needs.stopping is not None, "only a run that may stop early looks at held-out text"
        metrics = {"eval_loss": self._needs.stopping.loss_nats(cast(PreTrainedModel, self.model))}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Name the parameters that weight decay is applied to; a tied matrix counts as an embedding."""
        if self._recipe.decayed == "all":
            return [name for name, _ in model.named_parameters()]
        decayed: list[str] = super().get_decay_parameter_names(model)
        if self._recipe.decayed == "not-norms":
            return decayed
        tables = _embeddings(model)
        return [name for name, parameter in model.named_parameters() if name in decayed and id(parameter) not in tables]


def _embeddings(model: nn.Module) -> set[int]:
    """Identify the matrices that turn tokens into vectors, or vectors into scores of tokens."""
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head = cast(PreTrainedModel, model).get_output_embeddings()  # type: ignore[no-untyped-call]
    return {id(module.weight) for module in (*modules, head) if module is not None}
