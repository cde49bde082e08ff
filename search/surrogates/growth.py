"""When to choose again: what is dear to choose (hyperparameters, a family) is chosen on a prefix of the evidence.

The prefix depends on the length of the evidence alone, so a resumed study chooses as an uninterrupted one does.
"""

import numpy as np

_FIRST = 8
_GROWTH = 1.25


def fitting_prefix(count: int) -> int:
    """Return the largest fitting point not above `count`: 8, 10, 13, 17, 22, ...; below 8, all there is."""
    if count < _FIRST:
        return count
    prefix = _FIRST
    while int(np.ceil(prefix * _GROWTH)) <= count:
        prefix = int(np.ceil(prefix * _GROWTH))
    return prefix


def folds(count: int, parts: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Split `count` evaluations into at most `parts` folds, at random but always alike."""
    order = np.random.default_rng(count).permutation(count)
    return [np.sort(order[start::parts]) for start in range(min(parts, count))]
