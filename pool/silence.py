"""Libraries that log what they raise as well, or what they put right themselves, kept from it."""

import contextlib
import logging
from collections.abc import Iterator


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
