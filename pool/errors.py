"""What can be wrong with the state of the world, as opposed to an argument.

Every message names the thing (file, partition, key), what was expected and the way out, in one line:
the command line prints it as it is and exits non-zero.
"""


class MixscoutError(Exception):
    """Root of every error that a user can cause."""


class ConfigError(MixscoutError):
    """A TOML file that cannot be read or does not fit its schema."""


class CorpusError(MixscoutError):
    """Text that is missing, empty, too short, or in two places at once."""


class HubError(MixscoutError):
    """Something of the Hugging Face hub that is not to be had; whoever asked for it says what that was."""


class PoolError(MixscoutError):
    """A pool that is not built, or a checkpoint that cannot be believed."""


class PoolMismatchError(PoolError):
    """A pool that was built from something else than its file now says."""


class EngineError(MixscoutError):
    """Processes or machines that were to do work, and are out of reach, too small, or die at it."""


class StudyMismatchError(MixscoutError):
    """A study asked to go on with another pool, held-out text, space or strategy."""


class StudyError(MixscoutError):
    """A study that does not exist yet, or is being advanced by another process."""


class NotRememberedError(MixscoutError):
    """A figure that would take a merge or a training run, asked for where only what is remembered may be read."""


class StorageError(MixscoutError):
    """A database that is locked, not writable, or not ours."""


class NonFiniteLossError(MixscoutError):
    """A held-out loss that is NaN or infinite: never a value, always a failed trial."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; the name of its type where the message is empty."""
    return _lines(error)[0]


def last_line(error: BaseException) -> str:
    """Return the last line of an exception's message; the name of its type where the message is empty."""
    return _lines(error)[-1]


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
