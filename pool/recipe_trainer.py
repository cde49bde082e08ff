"""transformers' `Trainer` with what a recipe asks of it beyond its arguments."""

from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel, Trainer

from pool.recipe import Recipe


class RecipeTrainer(Trainer):
    """A `Trainer` that follows a recipe; everything that is not overridden here is transformers' own."""

    def __init__(self, recipe: Recipe, **options: Any) -> None:
        self._recipe = recipe
        super().__init__(**options)

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
    head = cast(PreTrainedModel, model).get_output_embeddings()
    return {id(module.weight) for module in (*modules, head) if module is not None}
