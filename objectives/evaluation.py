"""The seam between objectives and search: the protocol of objectives, and the evaluation of a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from objectives.held_out import Floats, HeldOutLoss
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture

Kind = Literal["merged", "trained", "seed", "analytic", "downstream", "tabulated"]
Partials = tuple[float, ...]

FORWARDS_PER_GRADIENT = 3
"""Cost of a gradient evaluation in forward passes: one forward, and a backward of about two."""


@dataclass(frozen=True)
class Evaluation:
    """The worth of one mixture.

    value, standard_error: the scalar minimised and its sampling error, in the goal's measure
    domains: loss of every held-out domain
    values: the value of each target
    violation: largest excess of a constrained domain above its ceiling
    gradient: d value / d weight (K,), in the mixture's order
    jacobian: d measure / d weight (K,) of every domain
    seconds, tokens_read: cost of this evaluation
    windows: nats of every window, by domain
    cached: remembered, not computed
    stopped_early: the value is an estimate, without domains and windows
    unread: tokens left unread of every held-out domain; empty unless stopped early

    Raises `NonFiniteLossError` when value, domains or gradient are not finite.
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
    unread: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bad = [name for name, loss in self.domains.items() if not math.isfinite(loss.nats)]
        if bad or not math.isfinite(self.value):
            where = f" on held-out domain {bad[0]!r}" if bad else ""
            raise NonFiniteLossError(f"the loss of mixture {self.mixture.as_dict()} is not finite{where}")
        if self.gradient is not None and not all(map(math.isfinite, self.gradient)):
            raise NonFiniteLossError(f"the gradient at mixture {self.mixture.as_dict()} is not finite")


@runtime_checkable
class Objective(Protocol):
    """Evaluates mixtures. Equal digests mean comparable values.

    The last three members are capabilities: None in an objective without them.
    """

    @property
    def partitions(self) -> tuple[str, ...]:
        """The K partitions of a mixture."""

    @property
    def digest(self) -> str:
        """Digest of everything that decides a value."""

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
