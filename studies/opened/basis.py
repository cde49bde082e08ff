"""What a study stands on, as far as its file is checked against it: a pool, or a table of models already trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from objectives.stand_ins.swarm_table import SwarmTable
from pool.mixture import Mixture
from pool.parts.store import Pool


@dataclass(frozen=True)
class Basis:
    """The K partitions and what mixtures of them are judged on.

    `domains` are held-out domains, or a table's metrics. `tokens` by partition and those of one member's training
    are known of a pool only; a study file that needs them is refused on a table before it comes here.
    """

    kind: Literal["pool", "table"]
    names: tuple[str, ...]
    domains: tuple[str, ...]
    tokens: Mapping[str, int]
    recipe_tokens: int

    @property
    def domain_noun(self) -> str:
        """What a domain is called."""
        return "held-out domain" if self.kind == "pool" else "metric"

    def proportional(self) -> Mixture:
        """Weigh partitions by the tokens they have."""
        return Mixture.proportional(self.tokens)


def basis_of_pool(pool: Pool) -> Basis:
    """Take what a pool knows."""
    tokens = {name: pool.tokens[name] for name in pool.names}
    return Basis("pool", pool.names, tuple(pool.manifest.corpus.search), tokens, pool.config.recipe.tokens)


def basis_of_table(table: SwarmTable) -> Basis:
    """Take what a table knows, which is nothing of tokens."""
    return Basis("table", table.names, tuple(table.metrics), {}, 0)
