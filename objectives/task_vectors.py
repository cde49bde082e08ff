"""Task vectors, tau_k = theta_k - theta_0 (Ilharco et al. 2023, arXiv 2212.04089): how long, and how alike.

No task vector is kept: the members, wherever they are held, and one copy of the seed are read a block at a time.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from objectives.held_out import Floats
from objectives.merge import StackedPool

BLOCK_ELEMENTS = 2**20
"""Parameters of a block. Signs are counted in float32, which is exact up to 2^24."""


@dataclass(frozen=True)
class TaskVectors:
    """What the task vectors of K members are to each other.

    `norms` (K,) and `seed_norm` are Euclidean. `cosines` (K, K) lie in [-1, 1] and `sign_conflicts` (K, K) in [0, 1]:
    the share of opposite signs among the parameters that both members changed. Unrelated vectors have cosine 0 and
    conflicts 0.5. Both are NaN where a member changed nothing.
    """

    names: tuple[str, ...]
    seed_norm: float
    norms: Floats
    cosines: Floats
    sign_conflicts: Floats

    @property
    def relative_norms(self) -> Floats:
        """Norms (K,) as a share of the seed's norm."""
        return self.norms / self.seed_norm


def compare_task_vectors(stacked: StackedPool, seed: Path) -> TaskVectors:
    """Compare the members of a stacked pool, as steps from the seed checkpoint in a folder.

    cos_ij = <tau_i, tau_j> / (|tau_i| |tau_j|), with differences in the pool's dtype and products and sums in float64.
    The resident model is left as the seed. Raises `PoolError` for a seed that cannot be loaded, or is not alike.
    """
    stacked.load(seed, "the seed")
    count = len(stacked.names)
    gram, opposite, both = (torch.zeros(count, count, dtype=torch.float64, device=stacked.device) for _ in range(3))
    for block, members in stacked.members.blocks(BLOCK_ELEMENTS):
        step = members - stacked.flat[block]
        up, down = (step > 0).float(), (step < 0).float()
        changed = up + down
        opposite += up @ down.T + down @ up.T
        both += changed @ changed.T
        gram += step.double() @ step.double().T
    norms = gram.diagonal().sqrt()
    cosines = (gram / torch.outer(norms, norms)).clamp(-1, 1)
    seed_norm = _norm(stacked.flat)
    return TaskVectors(stacked.names, seed_norm, *(_array(part) for part in (norms, cosines, opposite / both)))


def _norm(flat: torch.Tensor) -> float:
    """Return the Euclidean norm of (P,), a block at a time in float64."""
    starts = range(0, flat.numel(), BLOCK_ELEMENTS)
    squares = [float(flat[start : start + BLOCK_ELEMENTS].double().square().sum()) for start in starts]
    return math.sqrt(math.fsum(squares))


def _array(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy().astype(np.float64)
    return array
