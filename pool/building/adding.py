"""A member that was trained elsewhere, from the pool's seed, taken into the pool for one partition.

Everything is checked, and written aside, before anything of the pool is touched.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pool.building.build import verified
from pool.building.material import Material, prepare_material, write_material
from pool.building.request import Request
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import PoolFile
from pool.config.recipe import Mark, Recipe
from pool.errors import ConfigError, PoolError, PoolMismatchError
from pool.files.records import MANIFEST, write_record
from pool.files.whole import scratch_folder
from pool.mixture import Mixture
from pool.parts.candidate import Candidate, Seed, check_candidate
from pool.parts.exchange import building, check_one_disk, exchange, stage_folder
from pool.parts.given_seed import save_given_seed
from pool.parts.layout import CORPUS, POOL_RECORD, SEED, TOKENIZER, PoolLayout, member_folder, member_part
from pool.parts.provenance import label
from pool.parts.store import PoolManifest
from pool.progress import say
from pool.tokens.prepared import CorpusManifest


@dataclass(frozen=True)
class Source:
    """Where a member is: its folder, that of its tokenizer.json if another, and whether it may replace one there is."""

    folder: Path
    tokenizer: Path | None = None
    replace: bool = False


@dataclass(frozen=True)
class Added:
    """A member as it is in the pool now; `missing` members are still to be trained or added."""

    manifest: CheckpointManifest
    cosine_to_seed: float
    missing: tuple[str, ...]


def add_member(config: PoolFile, name: str, source: Source) -> Added:
    """Check a checkpoint, and make it the pool's member for partition `name`.

    Raises `ConfigError`, `CorpusError`, `PoolError` or `PoolMismatchError`; the pool is then as it was.
    """
    scratch = config.folder.with_name(f".{config.name}.scratch")
    with building(config.folder), scratch_folder(scratch):
        check_one_disk(config.folder)
        material = prepare_material(Request(config, frozenset({name} if source.replace else ())), scratch)
        _check_place(config, name, material, replace=source.replace)
        layout = _layout(config, name, material, scratch)
        seed = _seed(config, material, layout)
        what = f"--checkpoint for {label(name)}"
        candidate = check_candidate(source.folder, seed, what, tokenizer=source.tokenizer)
        names = tuple(material.corpus.manifest.partitions)
        if candidate.record is not None:
            _check_text(name, names, candidate.record, what)
            _check_recipe(config, candidate.record, what)
        layout.member(name).mkdir(parents=True)
        manifest = candidate.save(Mixture.vertex(names, name), layout.member(name))
        write_material(material, config, layout)
        missing = _put_in_place(config, layout, material.corpus.manifest, seed.manifest)
    say(_said(name, candidate))
    return Added(manifest, candidate.cosine, missing)


def _layout(config: PoolFile, name: str, material: Material, scratch: Path) -> PoolLayout:
    """Say where the parts are while the member and whatever the pool lacks are made aside."""
    lacking = {part for part in (TOKENIZER, SEED) if not (config.folder / part / MANIFEST).is_file()}
    new = lacking | {member_part(name)} | ({CORPUS} if material.new is not None else set())
    return PoolLayout(config.folder, scratch, frozenset(new))


def _put_in_place(
    config: PoolFile, layout: PoolLayout, corpus: CorpusManifest, seed: CheckpointManifest
) -> tuple[str, ...]:
    """Exchange what is new for what was there, and return the names of the members that are still missing.

    The pool's record is written once none is, and goes while one is.
    """
    scratch, stage = layout.stage, stage_folder(config.folder, "added")
    assert scratch is not None, "what is new was made there"
    missing = tuple(name for name in corpus.partitions if not (layout.member(name) / MANIFEST).is_file())
    record = [] if missing else [POOL_RECORD]
    if not missing:
        members = {name: verified(name, layout.member(name)) for name in corpus.partitions}
        manifest = PoolManifest(name=config.name, corpus=corpus, seed=seed, members=members)
        write_record(scratch / POOL_RECORD, manifest)
    shutil.rmtree(stage, ignore_errors=True)
    config.folder.mkdir(parents=True, exist_ok=True)
    scratch.rename(stage)
    exchange(stage, new=[*sorted(layout.new), *record], gone=[POOL_RECORD] if missing else [])
    return missing


def _check_place(config: PoolFile, name: str, material: Material, *, replace: bool) -> None:
    names = material.corpus.manifest.partitions
    if name not in names:
        raise ConfigError(
            f"{name!r} is no partition of pool {config.name!r}; there are {', '.join(names)}: give it a "
            f"[corpus.partitions.{name}] table with its text first, which tokens and caps are counted from"
        )
    if (member_folder(config.folder, name) / MANIFEST).is_file() and not replace:
        raise PoolError(f"pool {config.name!r} has a member {name!r} already; --replace puts this one in its place")


def _check_text(name: str, names: tuple[str, ...], record: CheckpointManifest, what: str) -> None:
    """Refuse what by its record was trained on other partitions of this pool; elsewhere they may have other names."""
    support = Mixture.of(record.mixture).support if record.mixture else ()
    others = [one for one in support if one != name and one in names]
    if others:
        raise PoolMismatchError(
            f"{what}: its {MANIFEST} says that it was trained on {', '.join(support)}, and {others[0]!r} is another "
            "partition of this pool; add it under that name"
        )


def _check_recipe(config: PoolFile, record: CheckpointManifest, what: str) -> None:
    """Refuse what by its record was trained by another recipe than the pool's, by which truths are trained."""
    if record.recipe is None or record.recipe.digest == config.recipe.digest:
        return
    theirs, ours = record.recipe.model_dump(), config.recipe.model_dump()
    free = Recipe.marked(Mark.WITHOUT_EFFECT)
    key = next(key for key in ours if theirs[key] != ours[key] and key not in free)
    raise PoolMismatchError(
        f"{what}: its {MANIFEST} says recipe.{key} {theirs[key]!r}, and the pool's is {ours[key]!r}; merges of it "
        "would stand for another training than the one that confirms them: set [recipe] to what it was trained by"
    )


def _seed(config: PoolFile, material: Material, layout: PoolLayout) -> Seed:
    """Return the seed in the pool, or where it is given and not there yet, aside."""
    folder = layout.seed
    if (folder / MANIFEST).is_file():
        return Seed(folder, verified(SEED, folder))
    if material.given is None:
        raise PoolError(
            f"pool {config.name!r} has no seed yet, and a member is compared with it; run `mixscout pool build` first, "
            "or name the seed that the member was trained from as [seed] checkpoint"
        )
    folder.mkdir()
    return Seed(folder, save_given_seed(material.given, config.context, folder))


def _said(name: str, candidate: Candidate) -> str:
    known = (
        "its record names the pool's seed" if candidate.record is not None else "no record says which seed it began as"
    )
    return f"{label(name)}: imported; {known}; the cosine of its parameters and the seed's is {candidate.cosine:.3f}"
