"""Add a member that was trained elsewhere from the pool's seed.

The member is checked, and written beside the pool, before the pool changes.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pool.building.foresight import Request
from pool.building.material import Material, prepare_material, write_material
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import PoolFile, naming
from pool.config.recipe import Recipe
from pool.errors import ConfigError, PoolError, PoolMismatchError
from pool.files.records import MANIFEST, write_record
from pool.files.whole import scratch_folder
from pool.mixture import Mixture
from pool.parts.layout import (
    CORPUS,
    POOL_RECORD,
    SEED,
    TOKENIZER,
    PoolLayout,
    building,
    check_one_disk,
    exchange,
    member_folder,
    member_part,
    stage_folder,
)
from pool.parts.others import Seed, check_candidate, save_given_seed
from pool.parts.provenance import label, recipe_changes
from pool.parts.store import PoolManifest, verified
from pool.progress import say


@dataclass(frozen=True)
class Source:
    """The folder of a member, of its tokenizer.json if another, and whether it may replace a member."""

    folder: Path
    tokenizer: Path | None = None
    replace: bool = False


@dataclass(frozen=True)
class Added:
    """A member in the pool; `missing` members are still to be trained or added."""

    manifest: CheckpointManifest
    cosine_to_seed: float
    missing: tuple[str, ...]


def add_member(config: PoolFile, name: str, source: Source) -> Added:
    """Check a checkpoint, and make it the pool's member for partition `name`.

    Raises `ConfigError`, `CorpusError`, `PoolError` or `PoolMismatchError`; the pool is then unchanged.
    """
    with naming(config):
        return _added(config, name, source)


def _added(config: PoolFile, name: str, source: Source) -> Added:
    folder = config.folder
    with building(folder), scratch_folder(folder.with_name(f".{folder.name}.scratch")) as scratch:
        check_one_disk(folder)
        material = prepare_material(Request(config, frozenset({name} if source.replace else ())), scratch)
        corpus = material.corpus.manifest
        names = tuple(corpus.partitions)
        _check_place(folder, name, names, replace=source.replace)
        new = {part for part in (TOKENIZER, SEED) if not (folder / part / MANIFEST).is_file()} | {member_part(name)}
        layout = PoolLayout(folder, scratch, frozenset(new if material.new is None else new | {CORPUS}))
        seed = _seed(config, material, layout)
        what = f"--checkpoint for {label(name)}"
        candidate = check_candidate(source.folder, seed, what, tokenizer=source.tokenizer)
        if candidate.record is not None:
            _check_text(name, names, candidate.record, what)
            _check_recipe(config.recipe, candidate.record, what)
        layout.member(name).mkdir(parents=True)
        manifest = candidate.save(Mixture.vertex(names, name), layout.member(name))
        write_material(material, config.own_tokenizer, layout)
        missing = tuple(other for other in names if not (layout.member(other) / MANIFEST).is_file())
        if not missing:
            members = {other: verified(other, layout.member(other)) for other in names}
            whole = PoolManifest(name=config.name, corpus=corpus, seed=seed.manifest, members=members)
            write_record(scratch / POOL_RECORD, whole)
        _put_in_place(layout, scratch, is_complete=not missing)
    known = (
        "its record names the pool's seed" if candidate.record is not None else "no record says which seed it began as"
    )
    cosine = f"the cosine of its parameters and the seed's is {candidate.cosine:.3f}"
    say(f"{label(name)}: imported; {known}; {cosine}")
    return Added(manifest, candidate.cosine, missing)


def _put_in_place(layout: PoolLayout, scratch: Path, *, is_complete: bool) -> None:
    stage = stage_folder(layout.folder, "added")
    shutil.rmtree(stage, ignore_errors=True)
    layout.folder.mkdir(parents=True, exist_ok=True)
    scratch.rename(stage)
    record = [POOL_RECORD]
    exchange(stage, new=[*sorted(layout.new), *(record if is_complete else [])], gone=[] if is_complete else record)


def _check_place(folder: Path, name: str, names: Collection[str], *, replace: bool) -> None:
    if name not in names:
        raise ConfigError(
            f"{name!r} is no partition of pool {folder.name!r}; there are {', '.join(names)}: give it a "
            f"[corpus.partitions.{name}] section with its text first, which tokens and caps are counted from"
        )
    if (member_folder(folder, name) / MANIFEST).is_file() and not replace:
        raise PoolError(f"pool {folder.name!r} has a member {name!r} already; --replace puts this one in its place")


def _check_text(name: str, names: Collection[str], record: CheckpointManifest, what: str) -> None:
    """Refuse a member that its record names another partition of this pool; foreign names may mean the same text."""
    support = Mixture.of(record.mixture).support if record.mixture else ()
    others = [one for one in support if one != name and one in names]
    if others:
        raise PoolMismatchError(
            f"{what}: its {MANIFEST} says that it was trained on {', '.join(support)}, and {others[0]!r} is another "
            "partition of this pool; add it under that name"
        )


def _check_recipe(recipe: Recipe, record: CheckpointManifest, what: str) -> None:
    if record.recipe is None or record.recipe.digest == recipe.digest:
        return
    key, (theirs, ours) = next(iter(recipe_changes(record.recipe, recipe).items()))
    raise PoolMismatchError(
        f"{what}: its {MANIFEST} says recipe.{key} {theirs!r}, and the pool's is {ours!r}; merges of it would stand "
        "for another training than the one that confirms them: set [recipe] to what it was trained by"
    )


def _seed(config: PoolFile, material: Material, layout: PoolLayout) -> Seed:
    folder = layout.seed
    if (folder / MANIFEST).is_file():
        return Seed(folder, verified(SEED, folder), material.tokenizer)
    if material.given is None:
        raise PoolError(
            f"pool {config.name!r} has no seed yet ({folder / MANIFEST} is missing), and a member is compared with "
            "it; run `mixscout pool build POOL.toml` first, or name the seed that the member was trained from as "
            "[seed] checkpoint"
        )
    folder.mkdir()
    return Seed(folder, save_given_seed(material.given, config.context, folder), material.tokenizer)
