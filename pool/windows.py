"""Which windows a run reads, in which order: a function of the mixture, the recipe and the tokens alone."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pool.mixture import Mixture
from pool.recipe import Recipe
from pool.tokens import Tokens


def training_windows(
    train: Mapping[str, Tokens], mixture: Mixture, recipe: Recipe, context: int
) -> npt.NDArray[np.int64]:
    """Draw the windows (N, T) of one run.

    Each partition gives its share of the N windows (largest remainder, so the counts sum to N), from the start
    of a fixed shuffled order of its own, again from another order when it is used up; the whole is
    shuffled once more. A partition's windows are the same ones whatever else is in the mixture.
    """
    rng = np.random.default_rng([recipe.order_seed, 0])
    counts = apportion(mixture.array, recipe.windows(context))
    parts = [
        _draw(train[name], int(count), context, [recipe.order_seed, 1, *name.encode()])
        for name, count in zip(mixture.names, counts, strict=True)
        if count > 0
    ]
    windows = np.concatenate(parts)
    return windows[rng.permutation(len(windows))].astype(np.int64)


def apportion(weights: npt.NDArray[np.float64], total: int) -> npt.NDArray[np.int64]:
    """Split `total` into whole counts (K,) in proportion to `weights` (K,), by largest remainder."""
    exact = weights * total
    counts = np.floor(exact).astype(np.int64)
    short = total - int(counts.sum())
    largest = np.argsort(-(exact - counts), kind="stable")[:short]
    counts[largest] += 1
    return counts


def _draw(stream: Tokens, count: int, context: int, entropy: list[int]) -> Tokens:
    available = len(stream) // context
    rng = np.random.default_rng(entropy)
    orders = [rng.permutation(available) for _ in range(-(-count // available))]
    chosen = np.concatenate(orders)[:count]
    return stream[: available * context].reshape(available, context)[chosen]
