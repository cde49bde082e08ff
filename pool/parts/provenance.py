"""The provenance of a checkpoint: everything that decides its weights, and later changes of that, in words."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pool.building.training.inputs import own_domains
from pool.checkpoints.foreign import ForeignFiles, find_foreign
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import SeedConfig
from pool.config.recipe import OptionMark, Recipe, Shape
from pool.errors import ConfigError, HubError, PoolError, PoolMismatchError
from pool.files.digests import digest_json, short
from pool.mixture import Mixture
from pool.progress import duration
from pool.tokens.prepared import CorpusManifest

_OF_RECIPE = "recipe."
ALL_MEMBERS = "all-members"
_WEIGHTS_NAMED = 3
"""Stands for every member of a pool where names of parts to make again are asked for."""
GIVEN_SEED = "[seed]"
"""A given seed, in messages."""


def label(name: str) -> str:
    return "the seed" if name == "seed" else f"member {name!r}"


def remedy_of(name: str) -> str:
    """Word the remedy for a damaged seed or member."""
    return f"run `mixscout pool build POOL.toml --rebuild {name}`, which makes it again"


def recipe_changes(old: Recipe, new: Recipe) -> dict[str, tuple[object, object]]:
    """Return both values of each option with an effect on the weights, where two recipes differ."""
    before, now, free = old.model_dump(), new.model_dump(), Recipe.marked(OptionMark.WITHOUT_EFFECT)
    return {key: (before[key], now[key]) for key in now if key not in free and before[key] != now[key]}


@dataclass(frozen=True)
class Provenance:
    """Everything that decides a checkpoint's weights, except for the machine.

    start_digest: of the seed's weights; for the seed itself, of its initial seed and mixture.
    data_digests: of the training text, by partition.
    held_out_digests: of the text that may stop the run, by domain.
    seed_mixture: set where the recipe reads the seed's text.
    """

    mixture: Mixture
    recipe: Recipe
    shape: Shape
    start_digest: str
    data_digests: Mapping[str, str]
    tokenizer_digest: str
    seed_mixture: Mixture | None = None
    held_out_digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        parts: list[object] = [self.mixture.digest, self.recipe.digest, self.shape.digest_parts, self.start_digest]
        parts += [dict(self.data_digests), self.tokenizer_digest]
        if self.seed_mixture is not None:
            parts.append({"seed mixture": self.seed_mixture.digest})
        if self.held_out_digests:
            parts.append({"held out": dict(self.held_out_digests)})
        return digest_json(parts)

    def changes_since(self, manifest: CheckpointManifest) -> list[str]:
        """Word the differences from a manifest, except for unknown facts of an imported checkpoint."""
        options = recipe_changes(manifest.recipe or self.recipe, self.recipe)
        changes = [f"{_OF_RECIPE}{key} {old!r} -> {new!r}" for key, (old, new) in options.items()]
        if manifest.shape != self.shape:
            changes.append("the model's shape")
        if Mixture.of(manifest.mixture).digest != self.mixture.digest:
            changes.append("its mixture")
        changes += [
            f"the training text of {name!r} ({short(manifest.data_digests[name])} -> {short(digest)})"
            for name, digest in self.data_digests.items()
            if manifest.data_digests.get(name, digest) != digest
        ]
        changes += [
            f"the held-out text of {name!r}, which stops it"
            for name, digest in self.held_out_digests.items()
            if manifest.held_out_digests.get(name, digest) != digest
        ]
        if manifest.tokenizer_digest != self.tokenizer_digest:
            changes.append("the tokenizer")
        if manifest.start_digest != self.start_digest:
            changes.append(f"what it starts from ({short(manifest.start_digest)} -> {short(self.start_digest)})")
        return changes


@dataclass(frozen=True)
class TruthRun:
    """A training on a mixture for its ground truth; `name` is for people."""

    mixture: Mixture
    recipe: Recipe
    name: str = field(default="", compare=False)

    @property
    def called(self) -> str:
        """The name, or the largest weights."""
        largest = sorted(self.mixture.as_dict().items(), key=lambda item: -item[1])[:_WEIGHTS_NAMED]
        return self.name or ", ".join(f"{name} {weight:.2f}" for name, weight in largest if weight > 0)


def seed_provenance(wanted: SeedConfig, shape: Shape, corpus: CorpusManifest) -> Provenance:
    """Return the provenance of a seed trained here. Raises `ConfigError` for a misfit mixture."""
    made = _provenance(seed_mixture(wanted.mixture, corpus), wanted.recipe, shape, corpus)
    return replace(made, start_digest=_seed_start(wanted))


def seed_mixture(choice: str | Mapping[str, float], corpus: CorpusManifest) -> Mixture:
    """Resolve a named mixture, or weights. Raises `ConfigError` for unknown partitions."""
    names = tuple(corpus.partitions)
    if not isinstance(choice, str):
        try:
            return Mixture.of(choice).over(names)
        except ValueError as error:
            raise ConfigError(f"[seed] mixture: {error}") from None
    if choice == "uniform":
        return Mixture.uniform(names)
    return Mixture.proportional({name: part.available_tokens for name, part in corpus.partitions.items()})


def _seed_start(wanted: SeedConfig) -> str:
    return digest_json({"initial_seed": wanted.initial_seed, "mixture": wanted.mixture})


def member_provenance(mixture: Mixture, recipe: Recipe, corpus: CorpusManifest, seed: CheckpointManifest) -> Provenance:
    """Return a member's or ground-truth run's provenance. Raises `PoolMismatchError` if the seed's text is gone."""
    made = replace(_provenance(mixture, recipe, seed.shape, corpus), start_digest=seed.weights_digest)
    if not recipe.reads_seed_text:
        return made
    seed_mixture = Mixture.of(seed.mixture)
    gone = [name for name in seed_mixture.support if name not in corpus.partitions]
    if gone:
        raise PoolMismatchError(
            f"[recipe] reads the seed's text: the seed was trained on partition {gone[0]!r}, which is not in the "
            "corpus any more; run `mixscout pool build POOL.toml --rebuild seed`, or leave replay_share and `ewc` out"
        )
    data = {name: corpus.partitions[name].digest for name in (*mixture.support, *seed_mixture.support)}
    return replace(made, seed_mixture=seed_mixture, data_digests=data)


def _provenance(mixture: Mixture, recipe: Recipe, shape: Shape, corpus: CorpusManifest) -> Provenance:
    data = {name: corpus.partitions[name].digest for name in mixture.support}
    stops = own_domains(mixture, corpus) if recipe.early_stopping else {}
    held_out = {name: corpus.search[name].digest for name in stops}
    return Provenance(mixture, recipe, shape, "", data, corpus.tokenizer_digest, held_out_digests=held_out)


def seed_changes(
    seed: CheckpointManifest, wanted: SeedConfig, shape: Shape, *, tokenizer_digest: str, pool: Path
) -> dict[str, list[str]]:
    """Word the changes since the seed in `pool` was made, under the name `seed`; empty without any.

    A seed stays the ancestor when text changes: its text, and the weights of a named mixture, are not compared.
    """
    if wanted.is_given:
        changes = _given_seed_changes(seed, wanted, pool)
    elif seed.imported is not None:
        changes = ["what it starts from (a checkpoint that was given -> trained here)"]
    else:
        start = _seed_start(wanted)
        made = Provenance(Mixture.of(seed.mixture), wanted.recipe, shape, start, {}, tokenizer_digest)
        changes = made.changes_since(seed)
    return {"seed": changes} if changes else {}


def _given_seed_changes(seed: CheckpointManifest, wanted: SeedConfig, pool: Path) -> list[str]:
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
    elif wanted.checkpoint is not None and _has_weights(wanted.checkpoint):
        files = given_seed_files(wanted, pool)
        weights, settings = (origin.weights_digest, files.weights_digest), (origin.config_digest, files.config_digest)
        for name, (old, new) in (("weights", weights), ("config.json", settings)):
            if old != new:
                changes.append(f"its checkpoint's {name} ({short(old)} -> {short(new)})")
    return changes


def _has_weights(folder: Path) -> bool:
    return folder.is_file() or any(
        any(folder.glob(pattern)) for pattern in ("*.safetensors", "snapshots/*/*.safetensors")
    )


def given_seed_files(wanted: SeedConfig, pool: Path) -> ForeignFiles:
    """Find the files of the seed named in the pool file, downloaded if need be. Raises `PoolError`."""
    folder = wanted.checkpoint or _downloaded(wanted.hub or "", wanted.revision or "")
    if folder.resolve().is_relative_to(pool):
        raise PoolError(
            f"{GIVEN_SEED} checkpoint {folder} is in the pool itself, which may be rebuilt; copy it elsewhere"
        )
    return find_foreign(folder, GIVEN_SEED, wanted.tokenizer)


def _downloaded(hub: str, revision: str) -> Path:
    from pool.files.hub import fetch, find_snapshot  # half a second of imports

    try:
        found = find_snapshot("model", hub, revision)
        fetch(found, [name for name in found.files if "/" not in name and name.endswith((".safetensors", ".json"))])
    except HubError as error:
        named = f"hub model {hub!r} at {revision}"
        raise PoolError(f"{GIVEN_SEED} {named} {error}, or give a local folder as [seed] checkpoint") from None
    return found.folder


def member_changes(
    recipe: Recipe, corpus: CorpusManifest, seed: CheckpointManifest, members: Mapping[str, CheckpointManifest]
) -> dict[str, list[str]]:
    """Word the changes since members were trained, by name; unchanged members are left out."""
    changes = {}
    for name, member in members.items():
        wanted = member_provenance(Mixture.vertex(tuple(corpus.partitions), name), recipe, corpus, seed)
        if found := wanted.changes_since(member):
            changes[name] = found
    return changes


def describe_changes(
    changed: Mapping[str, list[str]], recipe: Recipe, members: Mapping[str, CheckpointManifest], moves: str = ""
) -> str:
    """Name each changed checkpoint, its changes, `moves` of text between partitions, and the ways out.

    Where the recipe of members alone changed, the message has five lines: changes, members, cost, and the ways out.
    """
    of_recipe = all(one.startswith(_OF_RECIPE) for what in changed.values() for one in what)
    if of_recipe and changed.keys() <= members.keys():
        return _describe_recipe(changed, recipe, members)
    parts = [f"{label(name)} was trained before a change of {', '.join(what)}" for name, what in changed.items()]
    flags = "--rebuild seed" if "seed" in changed else " ".join(f"--rebuild {name}" for name in changed)
    ways = f"{moves}Rebuild with `mixscout pool build POOL.toml {flags}`, or give the pool another name"
    return f"{'; '.join(parts)}. {ways}"


def _describe_recipe(
    changed: Mapping[str, list[str]], recipe: Recipe, members: Mapping[str, CheckpointManifest]
) -> str:
    alike = Counter(", ".join(what) for what in changed.values())
    counts = (f"{number} member{'s were' if number > 1 else ' was'}" for number in alike.values())
    flags = " ".join(f"--rebuild {name}" for name in changed) if len(changed) < len(members) else f"--{ALL_MEMBERS}"
    return (
        f"{'; '.join(f'{some} trained before a change of {what}' for some, what in zip(counts, alike, strict=True))}\n"
        f"members: {', '.join(map(repr, changed))}; the corpus, the tokenizer and the seed still fit\n"
        f"cost: {_cost(recipe, [members[name] for name in changed])}\n"
        f"train them again by `mixscout pool build POOL.toml {flags}`; until then the pool stays as it is\n"
        "or take the change back, or give the pool another name"
    )


def _cost(recipe: Recipe, members: Sequence[CheckpointManifest]) -> str:
    """Word the tokens of training members again, and the time at the speed of their last training."""
    tokens = f"{recipe.tokens * len(members):,} tokens of training in all"
    speeds = [one.tokens / one.seconds for one in members if one.tokens and one.seconds]
    if not speeds:
        return tokens
    seconds = recipe.tokens * len(members) * len(speeds) / sum(speeds)
    return f"{tokens}, about {duration(math.ceil(seconds))} at the speed of the last training"


def describe_moves(changed: Mapping[str, list[str]], before: Sequence[str], now: Sequence[str]) -> str:
    """Explain changed text by partitions that moved in the file, or are new, or gone; empty where none did.

    A document of several partitions stands in the first of them.
    """
    touched = [name for name, what in changed.items() if any(" text of " in one for one in what)]
    if not touched:
        return ""
    gone = ", ".join(repr(name) for name in before if name not in now)
    last = max(now.index(name) for name in touched)
    came = ", ".join(repr(name) for name in now[:last] if name not in before)
    reasons = [f"what others share with {gone}, gone since, is theirs now (put it back)"] if gone else []
    if came:
        reasons.append(f"what others share with {came}, which came before them, is theirs no longer (put it last)")
    if [name for name in before if name in now] != [name for name in now if name in before]:
        reasons.append("partitions changed places (put them back)")
    alone = "A document that several partitions have stands in the first of them alone"
    return f"{alone}: {'; '.join(reasons)}. " if reasons else ""
