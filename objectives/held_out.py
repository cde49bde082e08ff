"""A held-out loss as sums, divided once. Losses add; perplexities are never averaged."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Precision = Literal["float32", "tf32", "bfloat16"]
"""Of the forward pass."""

CONFIDENT = 1.96
"""Standard errors to either side of a value for 95 % confidence."""


@dataclass(frozen=True)
class HeldOutLoss:
    """Sums over scored windows.

    nats: negative log-likelihood of all tokens
    bytes: raw UTF-8 bytes of their text
    words: pieces of the text between white space

    The last five fields are second moments over documents, for standard errors: windows of one document are dependent.
    """

    nats: float
    tokens: int
    bytes: int
    words: int
    windows: int
    documents: int
    nats_squared: float
    nats_times_tokens: float
    tokens_squared: float
    nats_times_bytes: float
    bytes_squared: float

    @classmethod
    def of_windows(
        cls, nats: Floats, tokens: Integers, bytes_covered: Integers, document: Integers, *, words: int
    ) -> HeldOutLoss:
        """Sum the nats, token counts, bytes and document numbers of windows, each (W,)."""
        home = np.unique(document, return_inverse=True)[1]
        x, t, b = (np.bincount(home, weights=column) for column in (nats, tokens, bytes_covered))
        return cls(
            nats=float(nats.sum()),
            tokens=int(tokens.sum()),
            bytes=int(bytes_covered.sum()),
            words=words,
            windows=len(nats),
            documents=len(x),
            nats_squared=float(x @ x),
            nats_times_tokens=float(x @ t),
            tokens_squared=float(t @ t),
            nats_times_bytes=float(x @ b),
            bytes_squared=float(b @ b),
        )

    def __add__(self, other: HeldOutLoss) -> HeldOutLoss:
        """Join two disjoint sets of documents."""
        mine, theirs = asdict(self), asdict(other)
        return HeldOutLoss(**{key: mine[key] + theirs[key] for key in mine})

    @property
    def loss_nats(self) -> float:
        """Mean nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss_nats), per token; infinite above the range of floats."""
        return perplexity_of(self.loss_nats)

    @property
    def bits_per_byte(self) -> float:
        """Bits of negative log-likelihood per byte of raw text, as lm-evaluation-harness defines it."""
        return self.nats / math.log(2) / self.bytes

    @property
    def byte_perplexity(self) -> float:
        """exp(nats / bytes), as lm-evaluation-harness defines it."""
        return perplexity_of(self.nats / self.bytes)

    @property
    def word_perplexity(self) -> float:
        """exp(nats / words), as lm-evaluation-harness defines it."""
        return perplexity_of(self.nats / self.words)

    @property
    def standard_error(self) -> float:
        """Standard error of `loss_nats` over other text of the same kind; infinite for one document.

        se^2 = n/(n-1) * sum (x_j - L t_j)^2 / (sum t_j)^2 over n documents (Cochran 1977, eq. 6.13, without the
        finite population factor).
        """
        return self._ratio_error(self.tokens, self.nats_times_tokens, self.tokens_squared)

    @property
    def bits_per_byte_error(self) -> float:
        """Standard error of `bits_per_byte`, by the same formula."""
        return self._ratio_error(self.bytes, self.nats_times_bytes, self.bytes_squared) / math.log(2)

    def _ratio_error(self, size: int, cross: float, size_squared: float) -> float:
        if self.documents < 2:
            return math.inf
        ratio = self.nats / size
        residuals = self.nats_squared - 2 * ratio * cross + ratio**2 * size_squared
        return math.sqrt(max(residuals, 0.0) * self.documents / (self.documents - 1)) / size


def perplexity_of(loss_nats: float) -> float:
    """Return exp(loss), infinite above the range of floats."""
    try:
        return math.exp(loss_nats)
    except OverflowError:
        return math.inf
