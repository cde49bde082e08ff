"""A complete pool on disk, read-only: it verifies before it believes.

POOL/  pool.json (written last)  tokenizer/  corpus/  seed/  members/<partition>/  trained/<digest>/
"""

import html
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from pool.checkpoints.manifest import WEIGHTS, CheckpointManifest, age_digests, age_folder, verify_checkpoint
from pool.config.pool_file import PoolFile, naming
from pool.corpus.files import digest_text
from pool.errors import ConfigError, CorpusError, PoolError, PoolMismatchError
from pool.files.digests import digest_file, digest_json, read_seen
from pool.files.records import MANIFEST, Record, read_record
from pool.mixture import Groups, Mixture, html_table, to_units
from pool.parts.layout import CORPUS, POOL_RECORD, SEED, TOKENIZER, building, is_unfinished, member_folder
from pool.parts.provenance import describe_changes, label, member_changes, remedy_of, seed_changes
from pool.progress import duration, size
from pool.tokens.prepared import CorpusManifest, PreparedCorpus, load_prepared
from pool.tokens.tokenizer import has_tokenizer


class PoolManifest(Record):
    """The record of a complete pool, written last."""

    name: str
    corpus: CorpusManifest
    seed: CheckpointManifest
    members: dict[str, CheckpointManifest]

    @property
    def digest(self) -> str:
        members = {name: [member.weights_digest, member.config_digest] for name, member in self.members.items()}
        return digest_json({"seed": [self.seed.weights_digest, self.seed.config_digest], "members": members})


_USUAL_AGES = 6
"""Ages that a member keeps by the advice given here."""
_EXCHANGE_SECONDS = 60.0
"""How long opening waits for another process to exchange parts."""


@dataclass(frozen=True, repr=False)
class Pool:
    """One seed, one member per partition, and their text, all verified.

    age: optimiser steps of the members in view (see `at_age`); None for their end.
    groups: units of each group, for mixtures over groups (see `by_groups`).
    others: folders of members in view that are not the pool's own (see `with_members`).
    """

    config: PoolFile
    manifest: PoolManifest
    corpus: PreparedCorpus
    age: int | None = None
    groups: Groups = field(default_factory=dict)
    others: Mapping[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.config.folder

    @property
    def names(self) -> tuple[str, ...]:
        """The K partitions, in the pool file's order, or the K groups."""
        return tuple(self.groups or self.manifest.members)

    @property
    def tokens(self) -> dict[str, int]:
        """All tokens of each partition, read by members or not."""
        parts = self.manifest.corpus.partitions
        return {name: sum(parts[unit].available_tokens for unit in self.units_of(name)) for name in self.names}

    @property
    def member_folders(self) -> dict[str, Path]:
        if self.others:
            return dict(self.others)
        folders = {name: member_folder(self.folder, name) for name in self.manifest.members}
        return folders if self.age is None else {name: age_folder(path, self.age) for name, path in folders.items()}

    @property
    def merged_folders(self) -> dict[str, tuple[Path, ...]]:
        """Folders of the checkpoints behind each name, merged evenly."""
        return {name: tuple(self.member_folders[unit] for unit in self.units_of(name)) for name in self.names}

    def __repr__(self) -> str:
        return f"<mixscout.Pool {self.config.name!r}, {len(self.names)} members: {', '.join(self.names)}>"

    def _repr_html_(self) -> str:
        tokens = {name: f"{count:,}" for name, count in self.tokens.items()}
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{html_table('tokens', tokens)}"

    def units_of(self, name: str) -> tuple[str, ...]:
        return self.groups[name] if self.groups else (name,)

    def unit_mixture(self, mixture: Mixture) -> Mixture:
        """Return the mixture over units, as models are trained on it."""
        return to_units(mixture, self.groups) if self.groups else mixture

    def by_groups(self) -> Self:
        """View the pool by groups, merged evenly from their units. Raises `ConfigError` without groups."""
        if not self.manifest.corpus.groups:
            raise ConfigError(
                f"pool {self.config.name!r} has no groups to weigh: set [corpus] base_units_tokens or groups in its "
                'file, or leave [space] units at "micro"'
            )
        return replace(self, groups=self.manifest.corpus.groups)

    def by_units(self) -> Self:
        return replace(self, groups={})

    def with_members(self, folders: Mapping[str, Path]) -> Self:
        """View the pool with other members, trained from its seed on one partition each. Raises `PoolError`."""
        members = {name: verified(name, folder) for name, folder in folders.items()}
        return replace(self, manifest=self.manifest.model_copy(update={"members": members}), age=None, others=folders)

    def at_age(self, steps: int) -> Self:
        """View the pool with members as after so many steps. Raises `ConfigError` and `PoolError`."""
        members = {name: _at_age(self.folder, name, member, steps) for name, member in self.manifest.members.items()}
        return replace(self, manifest=self.manifest.model_copy(update={"members": members}), age=steps)

    def at_all_ages(self) -> dict[int, Self]:
        """View the pool at every age that all members kept, by steps. Raises `ConfigError` for none."""
        ages = {name: set(member.ages) for name, member in self.manifest.members.items()}
        shared = set.intersection(*ages.values())
        if not shared:
            raise ConfigError(_no_ages(self, ages))
        return {steps: self.at_age(steps) for steps in sorted(shared)}

    def proportional(self) -> Mixture:
        return Mixture.proportional(self.tokens)


def _at_age(folder: Path, name: str, member: CheckpointManifest, steps: int) -> CheckpointManifest:
    if member.recipe is None or steps not in member.ages:
        there = ", ".join(map(str, member.ages)) or "none"
        raise ConfigError(
            f"{label(name)} was not kept at an age of {steps} steps (kept: {there}); set [recipe] keep_every_steps, "
            f"and run `mixscout pool build POOL.toml --rebuild {name}`"
        )
    kept, path = member.ages[steps], age_folder(member_folder(folder, name), steps)
    try:
        found = age_digests(path)
    except OSError as error:
        raise PoolError(f"{path}: {error.strerror}; {remedy_of(name)}") from None
    if found != kept:
        raise PoolError(f"{path} was truncated or altered since it was trained; {remedy_of(name)}")
    tokens = steps * member.recipe.batch_windows * member.shape.context
    update = {"weights_digest": kept.weights, "config_digest": kept.config, "tokens": tokens}
    return member.model_copy(update=update)


def _no_ages(pool: Pool, ages: Mapping[str, Collection[int]]) -> str:
    """Say which members kept no common age, and what ages cost."""
    members, recipe = pool.manifest.members, pool.config.recipe
    every, again, option = max(1, recipe.steps(pool.config.context) // _USUAL_AGES), list(ages), "--all-members"
    lacking = [name for name, kept in ages.items() if not kept]
    which = "its members kept no ages"
    if not lacking:
        which = "; ".join(f"{label(name)} kept {', '.join(map(str, sorted(kept)))}" for name, kept in ages.items())
    elif len(lacking) < len(ages):
        named = (f"{label(name)}{' (added from elsewhere)' * bool(members[name].imported)}" for name in lacking)
        which = f"{', '.join(named)} kept none, unlike the others"
        every, again = min(min(kept) for kept in ages.values() if kept), lacking
        option = " ".join(f"--rebuild {name}" for name in lacking)
    model = next(iter(pool.member_folders.values())) / WEIGHTS
    seconds, disk = sum(members[name].seconds for name in again), len(again) * _USUAL_AGES * model.stat().st_size
    return (
        f"pool {pool.config.name!r} has no age of all its members: {which}. Set [recipe] keep_every_steps = {every} "
        f"and run `mixscout pool build POOL.toml {option}`: {len(again)} of {len(ages)} members are trained again "
        f"({duration(seconds)} the last time), and about {size(disk)} more kept"
    )


def open_pool(config: PoolFile) -> Pool:
    """Open a pool and verify all of it. Raises `PoolError`, and `PoolMismatchError` for a changed pool file or text."""
    with naming(config):
        return _opened(config)


def _opened(config: PoolFile) -> Pool:
    folder = config.folder
    if is_unfinished(folder):
        with building(folder, wait_seconds=_EXCHANGE_SECONDS):
            pass  # this finishes the exchange
    if not (folder / POOL_RECORD).is_file():
        raise PoolError(f"pool {config.name!r} is not built in {folder}; run `mixscout pool build POOL.toml`")
    manifest = read_record(folder / POOL_RECORD, PoolManifest)
    corpus, seed = manifest.corpus, manifest.seed
    check_sources(config, corpus.source_digest)
    changed = seed_changes(seed, config.seed, config.model, tokenizer_digest=corpus.tokenizer_digest, pool=folder)
    changed |= member_changes(config.recipe, corpus, seed, manifest.members)
    if changed:
        raise PoolMismatchError(describe_changes(changed, config.recipe, manifest.members))
    _verify_checkpoints(folder, manifest)
    if not has_tokenizer(folder / TOKENIZER, config.own_tokenizer, config.name):
        missing = folder / TOKENIZER / MANIFEST
        raise PoolError(f"{missing} is missing; run `mixscout pool build POOL.toml`, which makes the tokenizer again")
    return Pool(config, manifest, load_prepared(folder / CORPUS, corpus))


def check_sources(config: PoolFile, built_from: str) -> None:
    """Raise `PoolMismatchError` when the text is not the text of digest `built_from`; missing text passes."""
    seen = read_seen(config.folder / CORPUS)
    try:  # remembered digests are asked first, and not believed where they differ
        each = (digest_text(config.corpus, config.context, of).whole for of in (seen.digest_of, digest_file))
        same = any(whole == built_from for whole in each)
    except CorpusError:
        return  # a built pool does not need its text any more
    if not same:
        raise PoolMismatchError(
            f"pool {config.name!r}: its text, or the [corpus] section, has changed since it was built; run "
            "`mixscout pool build POOL.toml`, which says what that touches"
        )


def verified(name: str, folder: Path) -> CheckpointManifest:
    """Read the manifest of the seed or a member. Raises `PoolError` for missing or altered files."""
    return verify_checkpoint(folder, label(name), remedy_of(name))


def _verify_checkpoints(folder: Path, manifest: PoolManifest) -> None:
    checkpoints = {SEED: (folder / SEED, manifest.seed)}
    checkpoints |= {name: (member_folder(folder, name), member) for name, member in manifest.members.items()}
    for name, (path, expected) in checkpoints.items():
        found = verified(name, path)
        if name != SEED and found.start_digest != manifest.seed.weights_digest:
            raise PoolError(f"{label(name)} in {path} was trained from another seed; {remedy_of(name)}")
        if (found.weights_digest, found.config_digest) != (expected.weights_digest, expected.config_digest):
            raise PoolError(f"{label(name)} in {path} is not the one this pool was built with; {remedy_of(name)}")
