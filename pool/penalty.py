"""The pull back to the seed: strength / 2 * sum over parameters of F * (parameter - seed)^2.

F is 1 for `l2`, and the diagonal Fisher information for `ewc` (Kirkpatrick et al. 2017, PNAS 114, equation 3).
"""

from collections.abc import Mapping

import torch

from pool.shards import sharded_like


class Penalty:
    """The penalty of one run; `importance` has a tensor in the shape of each parameter, none for `l2`.

    The start's parameters are copied when it is made, and kept where the model is.
    """

    def __init__(
        self, start: Mapping[str, torch.Tensor], strength: float, importance: Mapping[str, torch.Tensor] | None
    ) -> None:
        self._start = {name: tensor.detach().clone() for name, tensor in start.items()}
        self._importance = dict(importance) if importance is not None else None
        self._strength = strength

    @torch.no_grad()
    def add_gradient(self, model: torch.nn.Module) -> None:
        """Add the penalty's gradient, strength * F * (parameter - seed), to those of the parameters."""
        for name, parameter in model.named_parameters():
            self._follow(name, parameter)
            pull = self._strength * (parameter - self._start[name])
            if self._importance is not None:
                pull *= self._importance[name]
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

    def _follow(self, name: str, parameter: torch.Tensor) -> None:
        """Move what belongs to a parameter to its device, and cut it into the parameter's shards, once."""
        if self._start[name].device != parameter.device or type(self._start[name]) is not type(parameter.data):
            self._start[name] = sharded_like(parameter, self._start[name])
            if self._importance is not None:
                self._importance[name] = sharded_like(parameter, self._importance[name])
