"""A seed trained elsewhere: found, checked, taken over with its tokenizer, and compared later.

A folder is known by the digests of its files, and may be gone once the seed is in the pool.
"""

from dataclasses import replace
from pathlib import Path

from pool.checkpoints.checkpoint import save_checkpoint
from pool.checkpoints.manifest import CheckpointManifest, imported_manifest
from pool.checkpoints.others_files import ForeignFiles, find_foreign
from pool.config.pool_file import SeedConfig
from pool.config.recipe import GivenShape
from pool.errors import HubError, PoolError
from pool.files.digests import short
from pool.files.hub import fetch, find_snapshot
from pool.parts.others import Foreign, load_foreign

_WHAT = "[seed]"
_WANTED = (".safetensors", ".json")
"""Neither pickles nor code."""


def read_given_seed(wanted: SeedConfig, pool: Path) -> Foreign:
    """Load and check the seed named in the pool file. Raises `PoolError`."""
    files = _files(wanted, pool)
    foreign = load_foreign(files, _WHAT)
    longest = int(foreign.model.config.max_position_embeddings)
    if (context := wanted.context or longest) > longest:
        raise PoolError(f"{_WHAT} context {context} is more than the {longest} tokens the model was made for")
    if wanted.hub is None:
        return foreign
    named = {"hub": wanted.hub, "revision": wanted.revision, "commit": files.folder.name}
    return replace(foreign, origin=foreign.origin.model_copy(update=named))


def save_given_seed(foreign: Foreign, context: int, folder: Path) -> CheckpointManifest:
    manifest = imported_manifest(
        foreign.origin,
        shape=GivenShape(architecture=type(foreign.model).__name__, context=context),
        start_digest=foreign.origin.weights_digest,
        tokenizer_digest=foreign.origin.tokenizer_digest,
    )
    return save_checkpoint(foreign.model, foreign.tokenizer, folder, manifest)


def given_seed_changes(seed: CheckpointManifest, wanted: SeedConfig, pool: Path) -> list[str]:
    """Word the differences between the pool's seed and the one in the pool file."""
    if seed.imported is None:
        return ["what it starts from (trained here -> a checkpoint that is given)"]
    changes = []
    if seed.shape.context != wanted.context:
        changes.append(f"context {seed.shape.context} -> {wanted.context}")
    origin = seed.imported
    # a commit may be named in place of its tag
    if origin.hub != wanted.hub or wanted.revision not in (origin.revision, origin.commit):
        before, now = (f"{one.hub} at {one.revision}" if one.hub else "a folder" for one in (origin, wanted))
        changes.append(f"its source ({before} -> {now})")
    elif wanted.checkpoint is not None and any(wanted.checkpoint.glob("*.safetensors")):
        files = _files(wanted, pool)
        weights, settings = (origin.weights_digest, files.weights_digest), (origin.config_digest, files.config_digest)
        for name, (old, new) in (("weights", weights), ("config.json", settings)):
            if old != new:
                changes.append(f"its checkpoint's {name} ({short(old)} -> {short(new)})")
    return changes


def _files(wanted: SeedConfig, pool: Path) -> ForeignFiles:
    folder = wanted.checkpoint or _downloaded(wanted.hub or "", wanted.revision or "")
    if folder.resolve().is_relative_to(pool):
        raise PoolError(f"{_WHAT} checkpoint {folder} is in the pool itself, which may be rebuilt; copy it elsewhere")
    return find_foreign(folder, _WHAT, wanted.tokenizer)


def _downloaded(hub: str, revision: str) -> Path:
    try:
        found = find_snapshot("model", hub, revision)
        fetch(found, [name for name in found.files if "/" not in name and name.endswith(_WANTED)])
    except HubError as error:
        named = f"hub model {hub!r} at {revision}"
        raise PoolError(f"{_WHAT} {named} {error}, or give a local folder as [seed] checkpoint") from None
    return found.folder
