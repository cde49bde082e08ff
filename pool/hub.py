"""A model of the Hugging Face hub as a local folder: downloaded once, only where the environment allows a network."""

from pathlib import Path

from huggingface_hub import constants, snapshot_download

from pool.errors import PoolError

_WANTED = ["*.safetensors", "*.json"]
"""Neither pickles nor code."""


def hub_snapshot(name: str, revision: str) -> Path:
    """Return the folder of a model at a commit or tag; the folder's name is the commit.

    Raises `PoolError` when it is neither in the cache nor to be had.
    """
    offline = bool(constants.HF_HUB_OFFLINE)
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=_WANTED, ignore_patterns=["*/*"], local_files_only=offline
        )
    except Exception as error:  # huggingface_hub and its transport raise many types for one fact: not to be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "is not in the local cache" if offline else "cannot be had"
        raise PoolError(
            f"[seed] hub model {name!r} at {revision} {where}: {reason}; it is needed once: run the command with a "
            "network and HF_HUB_OFFLINE=0, or give a local folder as [seed] checkpoint"
        ) from None
    return Path(folder)
