"""Libraries that log what they raise as well, or what they put right themselves, kept from it; and whole processes."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

from tqdm import tqdm


@contextlib.contextmanager
def silent(library: str) -> Iterator[None]:
    """Keep the loggers under a name from printing while the block runs."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def mute() -> None:
    """Send to nowhere what this process prints, and the processes that it starts.

    Bars share no lock of the system's: Python warns of one that a killed process leaves, after our own last line.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    tqdm.set_lock(threading.RLock())
