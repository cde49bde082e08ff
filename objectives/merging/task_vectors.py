"""The geometry of members: task vectors, and loss barriers between merges.

Task vectors are tau_k = theta_k - theta_0 (Ilharco et al. 2023, arXiv 2212.04089). A barrier is a rise of the loss on
the straight line between two models; merging assumes none (Frankle et al. 2020, arXiv 1912.05671).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from objectives.held_out import Floats
from objectives.merging.merge import StackedPool
from pool.mixture import Mixture

BLOCK_ELEMENTS = 2**20
"""Parameters of a block. Signs are counted in float32, which is exact up to 2^24."""


@dataclass(frozen=True)
class TaskVectors:
    """Lengths and likeness of the task vectors of K members.

    norms (K,), seed_norm: Euclidean norms
    cosines (K, K): in [-1, 1], 0 for unrelated vectors
    sign_conflicts (K, K): share of opposite signs among parameters that both changed, 0.5 for unrelated vectors

    Both are NaN for a member without changes.
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
    """Compare the task vectors of members from a seed checkpoint, which becomes resident.

    cos_ij = <tau_i, tau_j> / (|tau_i| |tau_j|), with products and sums in float64. Raises `PoolError`.
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
    """Return the Euclidean norm of (P,), summed in float64."""
    starts = range(0, flat.numel(), BLOCK_ELEMENTS)
    squares = [float(flat[start : start + BLOCK_ELEMENTS].double().square().sum()) for start in starts]
    return math.sqrt(math.fsum(squares))


def _array(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy().astype(np.float64)
    return array


LossOf = Callable[[Mixture], float]


def shares_between(points: int) -> Floats:
    """Spread shares (points,) evenly over the open interval (0, 1). Raises `ValueError` for less than one point."""
    if points < 1:
        raise ValueError(f"a line needs at least one point between its ends: got {points}")
    return np.arange(1, points + 1) / (points + 1)


def mixture_between(start: Mixture, end: Mixture, share: float) -> Mixture:
    """Return (1 - share) start + share end; its merge lies on the line between their merges."""
    return Mixture.from_array(start.names, (1 - share) * start.array + share * end.over(start.names).array)


def barrier_nats(start: Mixture, end: Mixture, loss_of: LossOf, *, points: int) -> float:
    """Return the largest rise of the loss above the straight line between the losses of two merges, in nats.

    max over a of L((1 - a) theta_s + a theta_e) - [(1 - a) L(theta_s) + a L(theta_e)] (Entezari et al. 2022, arXiv
    2110.06296, eq. 1), over `points` shares a in (0, 1). Negative where every point is below the line, 0 for equal
    models, NaN where a loss is. Negative values shrink as points approach the ends: compare them at equal `points`.
    """
    shares = shares_between(points)
    between = np.array([loss_of(mixture_between(start, end, float(share))) for share in shares])
    with np.errstate(invalid="ignore"):  # infinite less infinite: not a number, and said so in the verdict
        return float(np.max(between - ((1 - shares) * loss_of(start) + shares * loss_of(end))))
