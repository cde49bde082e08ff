"""The tables within a recipe, each an option of its own that is off where there is no table."""

from typing import Literal

from pydantic import Field

from pool.files.toml import Config


class StopEarly(Config):
    """Stop when the loss on held-out text of the partition itself no longer falls; the best checkpoint is kept."""

    every_steps: int = Field(20, ge=1)
    """Optimiser steps between two looks at the partition's own held-out text (its search split, never the test
    split), which are also the steps between checkpoints."""
    patience: int = Field(3, ge=1)
    """Looks in a row without a new lowest loss after which training stops."""


class SeedPenalty(Config):
    """Pull members back to the seed while they are trained, against forgetting."""

    kind: Literal["l2", "ewc"] = "l2"
    """`l2`: every parameter alike; `ewc`: each by its diagonal Fisher information on the seed's text (Kirkpatrick et
    al. 2017)."""
    strength: float = Field(gt=0)
    """Half of it times the (weighted) squared distance from the seed is added to the loss in nats. With `ewc`, 1 weighs
    the estimated rise of the loss on the seed's text like the loss on the member's own."""
    fisher_windows: int = Field(128, ge=1)
    """Windows of the seed's training text on which the Fisher information is measured, once."""


class Lora(Config):
    """Train low-rank adapters, merged into full weights at the end (needs `mixscout[lora]`)."""

    rank: int = Field(8, ge=1)
    """Rank of each update."""
    alpha: int = Field(16, ge=1)
    """An update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the linear layers that are adapted, or the one word `all-linear`: all but the output head."""
