"""The pull back to the seed: strength / 2 * sum over parameters of F * (parameter - seed)^2.

F is 1 for `l2`, and the diagonal Fisher information for `ewc` (Kirkpatrick et al. 2017, PNAS 114, equation 3).
"""

from collections.abc import Mapping

import torch


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

    def nats(self, model: torch.nn.Module) -> torch.Tensor:
        """Return the penalty as a scalar that gradients flow through."""
        total: torch.Tensor | None = None
        for name, parameter in model.named_parameters():
            self._follow(name, parameter)
            squares = (parameter - self._start[name]).square()
            weighed = squares if self._importance is None else squares * self._importance[name]
            total = weighed.sum() if total is None else total + weighed.sum()
        assert total is not None, "a model has parameters"
        return 0.5 * self._strength * total

    def _follow(self, name: str, parameter: torch.Tensor) -> None:
        """Move what belongs to a parameter to its device, once."""
        if self._start[name].device != parameter.device:
            self._start[name] = self._start[name].to(parameter.device)
            if self._importance is not None:
                self._importance[name] = self._importance[name].to(parameter.device)
