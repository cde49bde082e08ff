"""A database that is away for a while is waited for: everything a study does can be begun again where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from pool.progress import say
from studies.database.errors import is_passing

PAUSE_SECONDS = 0.5

Answer = TypeVar("Answer")


def outlasting(
    work: Callable[[], Answer], *, patience_seconds: float, progress: Callable[[], object] = lambda: None
) -> Answer:
    """Do resumable work, again from where it stopped when the database was away, for at most so long at a time.

    Time counts from the first error after `progress()` last changed. Raises the database's error after that, and one
    that does not pass at once.
    """
    failing_since, last = None, progress()
    while True:
        try:
            return work()
        except (SQLAlchemyError, StorageInternalError) as error:
            now, here = time.monotonic(), progress()
            if failing_since is None or here != last:
                failing_since, last = now, here
            if not is_passing(error) or now - failing_since > patience_seconds:
                raise
            say("the database is away or busy; waiting for it")
            time.sleep(PAUSE_SECONDS)
