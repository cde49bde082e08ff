"""The windows of tokens of a run, in order; only their places are in memory, so a run may be longer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool.config.recipe import Recipe
from pool.mixture import Mixture
from pool.tokens.held_out import Tokens


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """The N windows of one run, each of `context` tokens (T).

    stream: number of each window's stream (N,).
    first: first token of each window in its stream (N,).
    """

    streams: tuple[Tokens, ...]
    stream: npt.NDArray[np.int32]
    first: npt.NDArray[np.int64]
    context: int

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        start = int(self.first[number])
        window: npt.NDArray[np.int64] = self.streams[self.stream[number]][start : start + self.context].astype(np.int64)
        return window

    @property
    def tokens(self) -> int:
        return len(self) * self.context


def training_windows(train: Mapping[str, Tokens], mixture: Mixture, recipe: Recipe, context: int) -> TrainingWindows:
    """Draw the windows of one run; `train` needs the partitions of positive weight only.

    Each partition gives its share of N windows, by largest remainder, in a shuffled order of its own, whatever else is
    in the mixture. A used-up partition starts again in another order, with `window_offset` also some tokens later. The
    windows of all partitions are then shuffled together.
    """
    rng = np.random.default_rng([recipe.order_seed, 0])
    names = mixture.support
    counts = apportion(np.array([mixture.as_dict()[name] for name in names]), recipe.windows(context))
    streams = tuple(train[name] for name in names)
    firsts = [
        _draw(len(stream), int(count), context, [recipe.order_seed, 1, *name.encode()], shifts=recipe.window_offset)
        for name, stream, count in zip(names, streams, counts, strict=True)
    ]
    order = rng.permutation(int(counts.sum()))
    stream = np.repeat(np.arange(len(streams), dtype=np.int32), counts)
    return TrainingWindows(streams, stream[order], np.concatenate(firsts)[order], context)


def apportion(weights: npt.NDArray[np.float64], total: int) -> npt.NDArray[np.int64]:
    """Split `total` in proportion to `weights` (K,), by largest remainder (Hamilton); a weight of zero gets nothing."""
    exact = weights * total
    counts = np.floor(exact).astype(np.int64)
    short = total - int(counts.sum())
    largest = np.lexsort((counts - exact, weights <= 0))[:short]
    counts[largest] += 1
    return counts


def _draw(tokens: int, count: int, context: int, entropy: list[int], *, shifts: bool) -> npt.NDArray[np.int64]:
    assert tokens >= context, "a partition of less than a window is refused when the corpus is made"
    rng, shift_rng = np.random.default_rng(entropy), np.random.default_rng([*entropy, 0])
    firsts, drawn = [np.empty(0, dtype=np.int64)], 0
    while drawn < count:
        is_repeat = drawn > 0
        # at most the stream's spare tokens, where the stream holds a single window
        shift = int(shift_rng.integers(min(context, tokens - context + 1))) if shifts and is_repeat else 0
        firsts.append(shift + context * rng.permutation((tokens - shift) // context))
        drawn += len(firsts[-1])
    return np.concatenate(firsts)[:count]
