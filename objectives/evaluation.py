"""The seam between objectives and search: what is asked of an objective, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from objectives.held_out import Floats, HeldOutLoss
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture

Kind = Literal["merged", "trained", "analytic", "downstream", "tabulated"]
Partials = tuple[float, ...]

FORWARDS_PER_GRADIENT = 3
"""What a gradient evaluation costs in forward passes: one forward and a backward of about two."""


@dataclass(frozen=True)
class Evaluation:
    """What a mixture turned out to be worth.

    `value` is the scalar minimised and `standard_error` its sampling error, in the target's measure; `values` the
    objectives side by side, where there are several; `violation` is how far a constrained domain is above its ceiling
    at worst; `domains` the sums behind it, and `windows` the nats of every
    window by domain. `gradient` (K,), where asked for, is d value / d weight in the mixture's order, `jacobian` the
    same for every domain's measure. `seconds` and `tokens_read` are what this evaluation cost; `cached` says that it
    was remembered instead of computed. One that `stopped_early` has an estimated value, no domains and no windows.
    Raises `NonFiniteLossError` at birth when the value or the gradient is not finite.
    """

    mixture: Mixture
    value: float
    standard_error: float
    domains: Mapping[str, HeldOutLoss]
    kind: Kind
    objective_digest: str
    seconds: float
    tokens_read: int
    values: tuple[float, ...] = ()
    violation: float = 0.0
    gradient: Partials | None = None
    jacobian: Mapping[str, Partials] | None = None
    windows: Mapping[str, Floats] | None = field(default=None, compare=False, repr=False)
    cached: bool = False
    stopped_early: bool = False

    def __post_init__(self) -> None:
        bad = [name for name, loss in self.domains.items() if not math.isfinite(loss.nats)]
        if bad or not math.isfinite(self.value):
            where = f" on held-out domain {bad[0]!r}" if bad else ""
            raise NonFiniteLossError(f"the loss of mixture {self.mixture.as_dict()} is not finite{where}")
        if self.gradient is not None and not all(map(math.isfinite, self.gradient)):
            raise NonFiniteLossError(f"the gradient at mixture {self.mixture.as_dict()} is not finite")


@runtime_checkable
class Objective(Protocol):
    """Tells what a mixture is worth. Equal digests mean comparable values.

    The last three members are capabilities: None in an objective without them.
    """

    @property
    def partitions(self) -> tuple[str, ...]:
        """The K partitions that a mixture weighs."""

    @property
    def digest(self) -> str:
        """Digest of everything that decides the value of a mixture."""

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture over `partitions`. Raises `NonFiniteLossError`."""

    @property
    def gradient(self) -> Callable[[Mixture], Evaluation] | None:
        """Evaluate a mixture with its gradient (K,). Raises `NonFiniteLossError`."""

    @property
    def challenge(self) -> Callable[[Mixture, Evaluation], Evaluation] | None:
        """Evaluate a mixture against a full evaluation, the incumbent; stop early once the mixture cannot win."""

    @property
    def foundation(self) -> Callable[[Mixture], str | None] | None:
        """Digest what decides the value of one mixture, itself included; None where that is the whole objective."""
