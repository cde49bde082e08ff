"""Repositories of the Hugging Face hub: downloaded once as local folders, or made of one, if a network is allowed.

Messages hold no address and no token.
"""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, get_cached_repo_tree, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from pydantic import TypeAdapter, ValidationError

from pool.errors import HubError, first_line
from pool.files.names import as_typed
from pool.files.secrets import secrets_of_environment, without_passwords, without_secrets
from pool.files.toml import HubName
from pool.progress import silent, track

Kind = Literal["model", "dataset"]
_CONNECTIONS = 8
_TOKEN = "log in with `hf auth login`, or set HF_TOKEN to a token that may"
_LOG_IN = f"{_TOKEN} read it"
_OTHER_TOKEN = "HF_TOKEN in the environment may not read it: set it to a token that may, or unset it"
_ON_THE_WAY = ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
"""Variables of the environment that say where the hub is, and how it is reached."""
_QUOTES_HEADERS = "LocalProtocolError"
"""Type of error whose message quotes a header with the token."""


def refusal(error: Exception, *, offline: bool) -> str:
    """Explain an exception, with the remedy, as a predicate without subject: `is gated: ask for access ...`."""
    if offline:
        return "is not in the local cache; it is needed once: run the command with a network and HF_HUB_OFFLINE=0"
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return _of_hub(cause) if isinstance(cause, Exception) else _of_hub(error)


def _of_hub(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return f"is gated: ask for access on its page on the hub, and {_way_in()}"
    if isinstance(error, RevisionNotFoundError):
        return "is not on the hub: it has no such revision; correct `revision`"
    if isinstance(error, RepositoryNotFoundError):
        return f"is not on the hub, or not for everyone to read: correct its name, or {_way_in()}"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        refused = status in (401, 403)
        return f"is refused by the hub ({status}): {_way_in()}" if refused else _again(f"the hub answers {status}")
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be kept in {constants.HF_HUB_CACHE}: {error.strerror}; make room or give write permission"
    return _again(_reason(error))


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if name == _QUOTES_HEADERS:
        return name
    return without_secrets(without_passwords(first_line(error)), secrets_of_environment())


def _again(reason: str) -> str:
    given = [name for name in _ON_THE_WAY if os.environ.get(name)]
    way = f" ({' and '.join(given)} in the environment leads there)" if given else ""
    return f"cannot be had: {reason}; see to the network{way} and run the command again"


def _way_in() -> str:
    return _OTHER_TOKEN if os.environ.get("HF_TOKEN") else _LOG_IN


@dataclass(frozen=True)
class Snapshot:
    """A repository at a commit.

    folder: local folder, named by the commit.
    files: bytes by file name, downloaded or not.
    """

    kind: Kind
    name: str
    folder: Path
    files: Mapping[str, int]


def find_snapshot(kind: Kind, name: str, revision: str) -> Snapshot:
    """Look up the files of a commit or tag without downloading them.

    Without a cached listing, a model consists of the files in its folder: its index names all shards. Raises `HubError`
    for an unavailable repository.
    """
    offline = bool(constants.HF_HUB_OFFLINE)
    try:
        with silent("huggingface_hub"):
            found = snapshot_download(
                name, repo_type=kind, revision=revision, allow_patterns=[], local_files_only=offline
            )
        return Snapshot(kind, name, Path(found), _listing(kind, name, Path(found)))
    except Exception as error:  # many types for one fact: unavailable
        raise HubError(refusal(error, offline=offline)) from None


def fetch(snapshot: Snapshot, wanted: Iterable[str]) -> None:
    """Download the missing files among `wanted`.

    Raises `HubError` for an unavailable file; complete files stay in the cache.
    """
    missing = [name for name in wanted if not (snapshot.folder / name).is_file()]
    offline = bool(constants.HF_HUB_OFFLINE)
    megabytes = sum(snapshot.files[name] for name in missing) / 1e6
    label, shown = f"{snapshot.name}: files of {megabytes:.1f} MB", bool(missing) and not offline
    progress = track(label, len(missing), shown=shown)
    try:
        with progress as advance, silent("huggingface_hub"), ThreadPoolExecutor(_CONNECTIONS) as connections:
            for done, name in enumerate(connections.map(partial(_download, snapshot), missing), start=1):
                advance(done, name)
    except Exception as error:  # as above
        raise HubError(refusal(error, offline=offline)) from None


def _listing(kind: Kind, name: str, folder: Path) -> Mapping[str, int]:
    try:
        return {one.path: one.size for one in get_cached_repo_tree(name, repo_type=kind, revision=folder.name)}
    except CachedRepoTreeNotFoundError:
        if kind == "dataset":
            raise
        return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


def _download(snapshot: Snapshot, name: str) -> str:
    offline = bool(constants.HF_HUB_OFFLINE)
    commit = snapshot.folder.name
    hf_hub_download(snapshot.name, name, repo_type=snapshot.kind, revision=commit, local_files_only=offline)
    return name


def check_pushing(name: str) -> None:
    """Raise `HubError` where `push` cannot succeed: a name that is none, no network, or no token."""
    try:
        TypeAdapter(HubName).validate_python(name if "/" in name else "")
    except ValidationError:
        raise HubError(f"{name!r} is no name on the hub; give OWNER/NAME") from None
    if constants.HF_HUB_OFFLINE:
        raise HubError(f"{name!r} needs a network: run the command with HF_HUB_OFFLINE=0")
    if not get_token():
        raise HubError(f"{name!r} needs a token: {_TOKEN} write there")


def push(folder: Path, name: str, message: str) -> str:
    """Commit a folder's files to a model on the hub, and return the commit; a new model is private.

    The token is the environment's. Raises `HubError`.
    """
    try:
        with silent("huggingface_hub"):
            hub = HfApi()
            hub.create_repo(name, private=True, exist_ok=True)
            return hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message).oid
    except Exception as error:  # as above
        remedy = f"its folder is complete, so push it later by `hf upload {name} {as_typed(folder)}`"
        raise HubError(f"{name!r} {_unpushed(error)}; {remedy}") from None


def _unpushed(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"is refused by the hub ({error.response.status_code}): {_TOKEN} write there"
    if isinstance(error, HfHubHTTPError):
        return f"was not taken: the hub answers {error.response.status_code}"
    return f"was not taken: {_reason(error)}"
