"""A held-out loss as sums, divided once: two of them add, and never are perplexities averaged."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class HeldOutLoss:
    """Sums over scored windows.

    `nats` is the summed negative log-likelihood of `tokens` tokens that cover `bytes` raw UTF-8 bytes, in
    `windows` windows. The three last fields are second moments over windows, for the standard error.
    """

    nats: float
    tokens: int
    bytes: int
    windows: int
    nats_squared: float
    nats_times_tokens: float
    tokens_squared: float

    @classmethod
    def of_windows(
        cls, nats: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64], *, text_bytes: int
    ) -> HeldOutLoss:
        """Sum per-window nats (W,) and token counts (W,)."""
        counts = tokens.astype(np.float64)
        return cls(
            nats=float(nats.sum()),
            tokens=int(tokens.sum()),
            bytes=text_bytes,
            windows=len(nats),
            nats_squared=float((nats**2).sum()),
            nats_times_tokens=float((nats * counts).sum()),
            tokens_squared=float((counts**2).sum()),
        )

    def __add__(self, other: HeldOutLoss) -> HeldOutLoss:
        """Pool two disjoint sets of windows."""
        mine, theirs = asdict(self), asdict(other)
        return HeldOutLoss(**{key: mine[key] + theirs[key] for key in mine})

    @property
    def loss_nats(self) -> float:
        """Mean nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss_nats); infinite rather than an overflow error."""
        return perplexity_of(self.loss_nats)

    @property
    def bits_per_byte(self) -> float:
        """Bits of negative log-likelihood per byte of raw text."""
        return self.nats / math.log(2) / self.bytes

    @property
    def standard_error(self) -> float:
        """Standard error of `loss_nats`: that of a ratio of sums over windows; infinite for one window.

        se^2 = n/(n-1) * sum (x_i - L t_i)^2 / (sum t_i)^2 (Cochran 1977, eq. 6.13, without the finite
        population factor). Windows of one document are not independent, so this is a lower estimate.
        """
        if self.windows < 2:
            return math.inf
        loss = self.loss_nats
        residuals = self.nats_squared - 2 * loss * self.nats_times_tokens + loss**2 * self.tokens_squared
        return math.sqrt(max(residuals, 0.0) * self.windows / (self.windows - 1)) / self.tokens


def perplexity_of(loss_nats: float) -> float:
    """Return exp(loss), infinite where a float cannot hold it."""
    try:
        return math.exp(loss_nats)
    except OverflowError:
        return math.inf
