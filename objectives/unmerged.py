"""A pool that nothing is merged from: for whoever reads what is remembered of it, and would wait for K models in vain.

The seed can be made resident and scored, because goals may be relative to it; the members stay on disk.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch

from objectives.members.holding import Holding
from objectives.merge import AS_TRAINED, StackedPool
from pool.errors import NotRememberedError


class UnmergedPool(StackedPool):
    """A stand-in for the stacked members of a pool, under their `names`; only the seed is in memory.

    Digests of objectives are those of the pool itself, held as `holding` says. Raises `PoolError` for a seed
    that cannot be believed.
    """

    def __init__(self, names: Sequence[str], seed: Path, *, holding: Holding = AS_TRAINED) -> None:
        super().__init__({"the seed": seed})
        self.names = tuple(names)
        self.holding = holding

    def merge(self, weights: npt.NDArray[np.float64]) -> NoReturn:
        """Refuse."""
        raise NotRememberedError("this would take a merge, and only what is remembered may be read")

    def merge_many(self, weights: npt.NDArray[np.float64]) -> torch.Tensor:
        """Refuse."""
        self.merge(weights)
