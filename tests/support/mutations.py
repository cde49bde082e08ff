"""Damaged inputs for fuzzing: random bytes, and mutations of a file that is right, from one seed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

ODD = (
    b"nan", b"-1", b"1e999", b"0", b"99999999999999999999", b"true", b"[]", b"{}", b"[", b"]", b'"', b"'", b"=", b",",
    b"\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"null", b"../..", b"~", b"$HOME", b"%", b"#", b" ",
    b"[corpus]", b"[[a]]", b"\\u0000", b"1979-05-27",
)  # fmt: skip
"""Passages that readers trip over."""


def random_bytes(rng: np.random.Generator) -> bytes:
    """Draw up to 400 bytes, of all 256 or of printable ASCII."""
    low, high = (0, 256) if rng.random() < 0.5 else (32, 127)
    return bytes(rng.integers(low, high, size=int(rng.integers(0, 400))).tolist())


def mutated(right: bytes, rng: np.random.Generator) -> bytes:
    """Change one to four places: a byte, a run taken out or doubled, an odd passage put in, or the end cut off."""
    data = bytearray(right)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data) + 1))
        run = int(rng.integers(1, 24))
        kind = int(rng.integers(0, 6))
        if kind == 0 and at < len(data):
            data[at] = int(rng.integers(0, 256))
        elif kind == 1:
            del data[at : at + run]
        elif kind == 2:
            data[at:at] = data[at : at + run]
        elif kind == 3:
            data[at:at] = ODD[int(rng.integers(0, len(ODD)))]
        elif kind == 4:
            data[at : at + run] = ODD[int(rng.integers(0, len(ODD)))]
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def damaged(right: bytes, *, rounds: int, seed: int) -> Iterator[bytes]:
    """Yield `rounds` inputs: a fifth random bytes, the others mutations."""
    rng = np.random.default_rng(seed)
    for number in range(rounds):
        yield random_bytes(rng) if number % 5 == 0 else mutated(right, rng)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the main thread when the block takes longer: a hang."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"an input was not answered within {seconds} s")

    before: Callable[[int, object], object] | int | None = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
