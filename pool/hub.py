"""Repositories of the Hugging Face hub as local folders: downloaded once, only where the environment allows a network.

Nothing is requested but a commit's listing and the files that are wanted, and nothing twice that the cache holds.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, get_cached_repo_tree, hf_hub_download, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError

from pool.errors import HubError
from pool.hub_refusals import refusal
from pool.progress import track
from pool.silence import silent

Kind = Literal["model", "dataset"]
_CONNECTIONS = 8


@dataclass(frozen=True)
class Snapshot:
    """A repository at a commit, which its folder is named for: `files` it has, in bytes, fetched or not."""

    kind: Kind
    name: str
    folder: Path
    files: Mapping[str, int]


def find_snapshot(kind: Kind, name: str, revision: str) -> Snapshot:
    """Look up a commit, or the one that a tag is now, and what it has; none of it is fetched.

    A model without a listing in the cache is what its folder holds: it says itself which shards make it whole. Text
    does not. Raises `HubError` when it is neither in the cache nor to be had.
    """
    offline = bool(constants.HF_HUB_OFFLINE)
    try:
        with silent("huggingface_hub"):
            found = snapshot_download(
                name, repo_type=kind, revision=revision, allow_patterns=[], local_files_only=offline
            )
        return Snapshot(kind, name, Path(found), _listing(kind, name, Path(found)))
    except Exception as error:  # huggingface_hub and its transport raise many types for one fact: not to be had
        raise HubError(refusal(error, offline=offline)) from None


def fetch(snapshot: Snapshot, wanted: Iterable[str]) -> None:
    """Download those of a snapshot's files that are not in its folder yet.

    Raises `HubError` when one is not to be had; the whole ones before it stay in the cache.
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
