"""Which windows a run reads, in which order: a function of the mixture, the recipe and the tokens alone.

Only their places are kept: a window is read when it is its turn, so a run may be longer than memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool.mixture import Mixture
from pool.recipe import Recipe
from pool.tokens import Tokens


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """The N windows of one run: of each the number of its stream (N,) and its place there in windows (N,)."""

    streams: tuple[Tokens, ...]
    stream: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]
    context: int

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        """Read one window (T,)."""
        start = int(self.place[number]) * self.context
        window: npt.NDArray[np.int64] = self.streams[self.stream[number]][start : start + self.context].astype(np.int64)
        return window

    @property
    def tokens(self) -> int:
        """Tokens in all of them."""
        return len(self) * self.context


def training_windows(train: Mapping[str, Tokens], mixture: Mixture, recipe: Recipe, context: int) -> TrainingWindows:
    """Draw the windows of one run.

    Each partition gives its share of the N windows (largest remainder, so the counts sum to N), from the start
    of a fixed shuffled order of its own, again from another order when it is used up; the whole is
    shuffled once more. A partition's windows are the same ones whatever else is in the mixture. `train` needs no more
    than the partitions of positive weight.
    """
    rng = np.random.default_rng([recipe.order_seed, 0])
    names = mixture.support
    counts = apportion(np.array([mixture.as_dict()[name] for name in names]), recipe.windows(context))
    streams = tuple(train[name] for name in names)
    places = [
        _draw(len(stream) // context, int(count), [recipe.order_seed, 1, *name.encode()])
        for name, stream, count in zip(names, streams, counts, strict=True)
    ]
    order = rng.permutation(int(counts.sum()))
    stream = np.repeat(np.arange(len(streams), dtype=np.int32), counts)
    return TrainingWindows(streams, stream[order], np.concatenate(places)[order], context)


def apportion(weights: npt.NDArray[np.float64], total: int) -> npt.NDArray[np.int64]:
    """Split `total` into whole counts (K,) in proportion to `weights` (K,), by largest remainder."""
    exact = weights * total
    counts = np.floor(exact).astype(np.int64)
    short = total - int(counts.sum())
    largest = np.argsort(-(exact - counts), kind="stable")[:short]
    counts[largest] += 1
    return counts


def _draw(available: int, count: int, entropy: list[int]) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(entropy)
    orders = [rng.permutation(available) for _ in range(-(-count // available))]
    return np.concatenate([np.empty(0, dtype=np.int64), *orders])[:count]
