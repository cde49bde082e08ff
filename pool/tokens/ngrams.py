"""Tokens and pairs of tokens as places in a table of counts: text as numbers, without any model."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from pool.tokens.held_out import IGNORED, HeldOutWindows, Tokens

Kind = Literal["unigrams", "bigrams"]
Places = npt.NDArray[np.int64]

BUCKETS = 65_536
"""Places of pairs: several pairs may share one."""
WINDOW = 128
"""Tokens of a window of training text."""
_FIRST, _SECOND = np.uint64(1_000_003), np.uint64(7_919)
"""Factors of the two tokens of a pair in its place; primes."""


def size_of(kind: Kind, vocabulary: int) -> int:
    """Return the number of places B."""
    return vocabulary if kind == "unigrams" else BUCKETS


def places_of(kind: Kind, tokens: Tokens) -> Places:
    """Return the places of the n-grams of tokens (..., T), all of one row: (..., T), or (..., T - 1) for pairs."""
    if kind == "unigrams":
        return np.asarray(tokens, dtype=np.int64)
    wide = np.asarray(tokens).astype(np.uint64)
    hashed = (wide[..., :-1] * _FIRST + wide[..., 1:] * _SECOND) % np.uint64(BUCKETS)
    return hashed.astype(np.int64)


def windows_of(tokens: Tokens) -> Tokens:
    """Cut a stream (T,) into whole windows (N, WINDOW); a shorter stream is one window."""
    whole = len(tokens) // WINDOW
    return np.asarray(tokens[: whole * WINDOW].reshape(whole, WINDOW) if whole else tokens[None])


def text_of(held_out: HeldOutWindows) -> Tokens:
    """Return the predicted tokens (T,) of held-out windows, each token once."""
    return np.asarray(held_out.targets[held_out.targets != IGNORED])
