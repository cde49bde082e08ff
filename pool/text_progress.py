"""Progress through text, in megabytes of it: one partition may be most of the work, and one document a partition."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate

from pool.progress import track

_MEGABYTE = 1_000_000


@contextmanager
def track_reading(label: str) -> Iterator[Callable[[str, int], None]]:
    """Yield `advance(place, bytes)`, which shows that a document of so many bytes was read and belongs to a place.

    How many there are in all nobody knows: files may be compressed.
    """
    done = 0
    with track(f"{label}, MB", None) as show:

        def advance(place: str, size: int) -> None:
            nonlocal done
            before, done = done, done + size
            if before // _MEGABYTE < done // _MEGABYTE:
                show(done // _MEGABYTE, place)

        yield advance


@contextmanager
def track_text(label: str, sizes: Mapping[str, int]) -> Iterator[Callable[[str, float], None]]:
    """Yield `advance(name, share)`, which shows that a share of one piece of text is done, and the pieces before it.

    `sizes` names the pieces in their order, with about as many bytes as each will take.
    """
    before = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    last, total = 0, sum(sizes.values())
    with track(f"{label}, MB of text", math.ceil(total / _MEGABYTE)) as show:

        def advance(name: str, share: float) -> None:
            nonlocal last
            done = before[name] + min(1.0, share) * sizes[name]
            now = math.ceil(done / _MEGABYTE) if done == total else int(done // _MEGABYTE)
            if now > last:
                show(now, name)
                last = now

        yield advance


def watched(documents: Iterable[str], size: int, advance: Callable[[float], None]) -> Iterator[str]:
    """Yield documents of about `size` bytes in all, and tell after each which share of them was asked for."""
    done = 0
    for text in documents:
        yield text
        done += len(text.encode("utf-8", "surrogatepass"))
        advance(done / size)
