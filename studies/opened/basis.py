"""What a study file is checked against: the partitions and domains of a pool, or of a swarm."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pool.mixture import Mixture


@dataclass(frozen=True)
class Basis:
    """The K partitions, and the E domains that mixtures of them are judged on.

    root: folder of the pool or of the swarm; reports are written under it.
    domains: held-out domains of a pool, metrics of a swarm.
    tokens: tokens by partition; empty for a swarm.
    recipe_tokens: tokens of the training of one member; 0 for a swarm.
    """

    kind: Literal["pool", "table"]
    root: Path
    names: tuple[str, ...]
    domains: tuple[str, ...]
    tokens: Mapping[str, int]
    recipe_tokens: int

    @property
    def domain_noun(self) -> str:
        """The word for a domain."""
        return "held-out domain" if self.kind == "pool" else "metric"

    def proportional(self) -> Mixture:
        """Weigh partitions by their tokens."""
        return Mixture.proportional(self.tokens)
