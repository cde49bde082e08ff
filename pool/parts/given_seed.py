"""A seed that was trained already: found, checked, taken over with its tokenizer, and compared later.

A folder is known by the digests of its files, not by its path; it, or its weights alone, may be gone once the seed is
in the pool. A model of the hub is known by its name, and by its revision or the commit that this was.
"""

from dataclasses import replace
from pathlib import Path

from pool.checkpoints.checkpoint import save_checkpoint
from pool.checkpoints.manifest import CheckpointManifest, Origin, imported_manifest
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
    """Load and check the seed that the pool file names. Raises `PoolError`; nothing is written."""
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
    """Write a given seed into an existing empty folder, in float32, its manifest last."""
    manifest = imported_manifest(
        foreign.origin,
        shape=GivenShape(architecture=type(foreign.model).__name__, context=context),
        start_digest=foreign.origin.weights_digest,
        tokenizer_digest=foreign.origin.tokenizer_digest,
    )
    return save_checkpoint(foreign.model, foreign.tokenizer, folder, manifest)


def given_seed_changes(seed: CheckpointManifest, wanted: SeedConfig, pool: Path) -> list[str]:
    """Say in words how the seed that the pool file names differs from the pool's; empty when it does not."""
    if seed.imported is None:
        return ["what it starts from (trained here -> a checkpoint that is given)"]
    changes = []
    if seed.shape.context != wanted.context:
        changes.append(f"context {seed.shape.context} -> {wanted.context}")
    if not _is_same_source(seed.imported, wanted):
        before, now = (_shown(one.hub, one.revision) for one in (seed.imported, wanted))
        changes.append(f"its source ({before} -> {now})")
    elif wanted.checkpoint is not None and any(wanted.checkpoint.glob("*.safetensors")):
        changes += _changed_files(_files(wanted, pool), seed.imported)
    return changes


def _is_same_source(origin: Origin, seed: SeedConfig) -> bool:
    """Whether a seed came from where the table says; the commit that a tag was may be named instead of the tag."""
    return origin.hub == seed.hub and seed.revision in (origin.revision, origin.commit)


def _files(wanted: SeedConfig, pool: Path) -> ForeignFiles:
    folder = wanted.checkpoint or _downloaded(wanted)
    if folder.resolve().is_relative_to(pool):
        raise PoolError(f"{_WHAT} checkpoint {folder} is in the pool itself, which may be rebuilt; copy it elsewhere")
    return find_foreign(folder, _WHAT, wanted.tokenizer)


def _downloaded(seed: SeedConfig) -> Path:
    try:
        found = find_snapshot("model", seed.hub or "", seed.revision or "")
        fetch(found, [name for name in found.files if "/" not in name and name.endswith(_WANTED)])
    except HubError as error:
        named = f"hub model {seed.hub!r} at {seed.revision}"
        raise PoolError(f"{_WHAT} {named} {error}, or give a local folder as [seed] checkpoint") from None
    return found.folder


def _shown(hub: str | None, revision: str | None) -> str:
    return f"{hub} at {revision}" if hub else "a folder"


def _changed_files(files: ForeignFiles, origin: Origin) -> list[str]:
    old = {"weights": origin.weights_digest, "config.json": origin.config_digest}
    new = {"weights": files.weights_digest, "config.json": files.config_digest}
    changed = [name for name in old if old[name] != new[name]]
    return [f"its checkpoint's {name} ({short(old[name])} -> {short(new[name])})" for name in changed]
