"""Why something of the hub is not to be had, in words, with the way out; no address and no token stands in them."""

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pool.errors import first_line

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may read it"
_QUOTES_HEADERS = "LocalProtocolError"
"""A header that cannot be sent; its message quotes the header, with the token."""


def refusal(error: Exception, *, offline: bool) -> str:
    """Say what an exception means to whoever named a repository, and what to do; others may follow it by an `or`."""
    if offline:
        return "is not in the local cache; it is needed once: run the command with a network and HF_HUB_OFFLINE=0"
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return _of_hub(cause) if isinstance(cause, Exception) else _of_hub(error)


def _of_hub(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return f"is gated: ask for access on its page on the hub, and {_LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return "is not on the hub: it has no such revision; correct `revision`"
    if isinstance(error, RepositoryNotFoundError):
        return f"is not on the hub, or not for everyone to read: correct its name, or {_LOG_IN}"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        refused = status in (401, 403)
        return f"is refused by the hub ({status}): {_LOG_IN}" if refused else _again(f"the hub answers {status}")
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be kept in {constants.HF_HUB_CACHE}: {error.strerror}; make room or give write permission"
    name = type(error).__name__
    return _again(name if name == _QUOTES_HEADERS else first_line(error))


def _again(reason: str) -> str:
    return f"cannot be had: {reason}; see to the network and run the command again"
