"""Errors about the state of the world; wrong arguments raise `ValueError` or `TypeError`.

Each message is one line for the command line: the thing, the expectation, the remedy.
"""


class MixscoutError(Exception):
    """Root of every error that a user can cause."""


class ConfigError(MixscoutError):
    """A TOML file is unreadable or does not fit its schema."""


class CorpusError(MixscoutError):
    """Text is missing, empty, too short, or in two places at once."""


class HubError(MixscoutError):
    """A file of the hub is unavailable; the caller adds the subject of the message."""


class PoolError(MixscoutError):
    """A pool is not built, or a checkpoint is damaged."""


class PoolMismatchError(PoolError):
    """A pool was built from other settings than its file holds now."""


class EngineError(MixscoutError):
    """Processes or machines are out of reach, too small, or die at their jobs."""


class DeviceError(MixscoutError):
    """A GPU failed: its process can use it no more."""


class StudyMismatchError(MixscoutError):
    """A study is to continue with another pool, held-out text, space or strategy."""


class StudyError(MixscoutError):
    """A study does not exist yet, or another process advances it."""


class NotRememberedError(MixscoutError):
    """A figure is not remembered, and merging or training is not allowed."""


class StorageError(MixscoutError):
    """A database is locked, not writable, or not ours."""


class OutputError(MixscoutError):
    """An answer cannot be written: standard output is closed or full, or a place refuses a file."""


class NonFiniteLossError(MixscoutError):
    """A held-out loss is NaN or infinite: the trial fails, and no value is kept."""


def first_line(error: BaseException) -> str:
    """Return the first line of a message, or the exception's type if it is empty."""
    return _lines(error)[0]


def last_line(error: BaseException) -> str:
    """Return the last line of a message, or the exception's type if it is empty."""
    return _lines(error)[-1].strip()


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
