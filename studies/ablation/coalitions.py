"""From a coalition of partitions to the mixture that stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from objectives.held_out import Floats
from pool.mixture import Mixture
from studies.ablation.evidence import Evidence, Model

GameName = Literal["uniform", "best"]


@dataclass(frozen=True)
class Game:
    """A coalition S is worth minus the loss of the `whole` mixture restricted to S and renormalised.

    The empty coalition is the seed checkpoint: a pool of which nothing is taken. Partitions without weight in the whole
    are no `players`: they add nothing to any coalition, so their Shapley value is 0.
    """

    whole: Mixture

    @property
    def players(self) -> tuple[str, ...]:
        """The partitions that can contribute."""
        return self.whole.support

    def model(self, coalition: npt.NDArray[np.bool_]) -> Model:
        """Return the mixture of a coalition (K,) of the players; None, the seed, for the empty one."""
        chosen = [name for name, there in zip(self.players, coalition, strict=True) if there]
        return restricted(self.whole, chosen)

    def values(self, coalitions: npt.NDArray[np.bool_], evidence: Evidence) -> Floats:
        """Return minus the loss of coalitions (N, K) in every column (N, C)."""
        return -np.stack([evidence.values(self.model(coalition)) for coalition in coalitions])


def restricted(mixture: Mixture, names: Sequence[str]) -> Model:
    """Keep some partitions of a mixture, the rest renormalised; None, the seed, when nothing is left."""
    kept = {name: weight if name in names else 0.0 for name, weight in mixture.as_dict().items()}
    return Mixture.proportional(kept) if any(kept.values()) else None


def without(mixture: Mixture, name: str) -> Model:
    """Take a partition out of a mixture, the rest renormalised; None, the seed, when nothing is left."""
    return restricted(mixture, [other for other in mixture.names if other != name])


def with_added(mixture: Mixture, name: str, weight: float) -> Mixture:
    """Give a partition `weight` and scale what was there down to make room."""
    added = (1 - weight) * mixture.array + weight * Mixture.vertex(mixture.names, name).array
    return Mixture.from_array(mixture.names, added / added.sum())
