"""A build as it is asked for; mistakes of its pool file that need no text to be seen are refused before text is read.

Reading and tokenising takes hours for a large corpus, and the seed trains before the members.
"""

import contextlib
import copy
import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from pool.building.training.placement import with_adapter
from pool.checkpoints.checkpoint import configuration_of, parameters_of
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import CorpusConfig, HeldOutSize, PoolFile
from pool.config.recipe import OptionMark, Recipe
from pool.corpus.embeddings import load_embedding_model
from pool.corpus.files import TextDigest, digest_text
from pool.errors import ConfigError, PoolError, PoolMismatchError
from pool.files.digests import Watcher, digest_json
from pool.files.names import file_name
from pool.files.records import MANIFEST, read_record
from pool.files.whole import disk_free
from pool.mixture import group_units
from pool.parts.layout import CORPUS, POOL_RECORD, SEED, TOKENIZER, PoolLayout, member_folder, member_part, stage_folder
from pool.parts.provenance import ALL_MEMBERS, describe_changes, recipe_changes

EVERYTHING = "all"
_OF_A_RECIPE = set(Recipe.marked(OptionMark.WITHOUT_EFFECT)) - {"keep_every_steps"}
_FREE: dict[str, Any] = {"recipe": _OF_A_RECIPE, "seed": {"recipe": _OF_A_RECIPE}}
"""Options that may change before an interrupted build goes on."""


@dataclass(frozen=True)
class Request:
    """A pool file, and the names of parts to make again."""

    config: PoolFile
    rebuild: frozenset[str] = frozenset()

    @cached_property
    def seen(self) -> Watcher:
        return Watcher()

    @cached_property
    def text(self) -> TextDigest:
        """Digest of the [corpus] section and its text. Raises `CorpusError` for a missing file."""
        return digest_text(self.config.corpus, self.config.context, self.seen.digest_of)

    @cached_property
    def stage(self) -> Path | None:
        """Folder for new parts, named by everything asked for; None for a first build. Raises `CorpusError`."""
        if not self.rebuild and not (self.config.folder / POOL_RECORD).is_file():
            return None
        told = self.config.model_dump(mode="json", exclude={"root": True, "corpus": True, **_FREE})
        return stage_folder(self.config.folder, digest_json([told, self.text.whole, sorted(self.rebuild)])[:12])

    @property
    def anew(self) -> bool:
        return EVERYTHING in self.rebuild

    def is_new(self, name: str) -> bool:
        """Whether the seed or a member is missing, or made again."""
        part = SEED if name == SEED else member_part(name)
        every = {EVERYTHING, SEED} if name == SEED else {EVERYTHING, SEED, ALL_MEMBERS}
        asked = every & self.rebuild or file_name(name) in map(file_name, self.rebuild)
        return bool(asked) or not (self.config.folder / part / MANIFEST).is_file()

    def layout(self, names: Collection[str], *, corpus_is_new: bool) -> PoolLayout:
        if self.stage is None:
            return PoolLayout(self.config.folder)
        new = {CORPUS} if corpus_is_new else set()
        if self.anew or not (self.config.folder / TOKENIZER / MANIFEST).is_file():
            new.add(TOKENIZER)
        if self.is_new(SEED):
            new.add(SEED)
        new |= {member_part(name) for name in names if self.is_new(name)}
        return PoolLayout(self.config.folder, self.stage, frozenset(new))


_BYTES_A_PARAMETER = 4


def foresee(request: Request, *, trains_here: bool) -> None:
    """Refuse what cannot end well, from the pool file, the seed's configuration and this machine alone.

    `trains_here` tells whether members train in this process. Raises `ConfigError`, `CorpusError` and `PoolError`.
    """
    config = request.config
    trains_seed = request.is_new(SEED) and not config.seed.is_given
    _check_names(request, trains_seed=trains_seed)
    recipes = {"[recipe]": config.recipe} | ({"[seed.recipe]": config.seed.recipe} if trains_seed else {})
    for where, recipe in recipes.items():
        if recipe.early_stopping and (where == "[recipe]" or isinstance(config.seed.mixture, str)):
            _check_stopping(where, config.corpus)
        _check_gpus(where, recipe, here=trains_here or where != "[recipe]")
    if config.corpus.train_tokens < config.context:
        raise ConfigError(
            f"partition {next(iter(config.corpus.partitions), 'first')!r} has at most the {config.corpus.train_tokens} "
            f"tokens of [corpus] train_tokens, fewer than one window of {config.context}; raise it, or lower the "
            "context"
        )
    if config.recipe.lora and importlib.util.find_spec("peft") is None:
        raise PoolError("[recipe.lora] needs peft: run `pip install 'mixscout[lora]'`")
    if not request.is_new(SEED):
        with contextlib.suppress(OSError, ValueError):  # a damaged seed is refused when it is verified
            check_model(request, AutoConfig.from_pretrained(config.folder / SEED, local_files_only=True))
    elif not config.seed.is_given:
        check_model(request, configuration_of(config.model, config.tokenizer.vocabulary))


def check_model(request: Request, configuration: PretrainedConfig) -> None:
    """Check adapters and room on the disk against a model's shape, without any of its values. Raises `PoolError`."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        own = copy.deepcopy(configuration)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(own)  # type: ignore[no-untyped-call]
    _check_room(request, sum(tensor.numel() for tensor in parameters_of(model).values()))
    if lora := request.config.recipe.lora:
        with_adapter(model, lora, initial_seed=request.config.recipe.order_seed)


def check_before_reading(request: Request) -> None:
    """Refuse, before changed text is read, a changed recipe of kept members, and models unfit for embeddings.

    Raises `PoolMismatchError` and `CorpusError`.
    """
    config, changed, kept = request.config, dict[str, list[str]](), dict[str, CheckpointManifest]()
    for name in _known_partitions(config.corpus) or ():
        if not request.is_new(name):
            kept[name] = read_record(member_folder(config.folder, name) / MANIFEST, CheckpointManifest)
            if options := recipe_changes(kept[name].recipe or config.recipe, config.recipe):
                changed[name] = [f"recipe.{key} {old!r} -> {new!r}" for key, (old, new) in options.items()]
    if changed:
        raise PoolMismatchError(describe_changes(changed, config.recipe, kept))
    _check_embeddings(config.corpus)


def _check_embeddings(corpus: CorpusConfig) -> None:
    """Load every model of a topic split once and forget it: a load takes seconds, and the text comes first."""
    for name, section in corpus.partitions.items():
        if section.cluster is not None and section.cluster.embeddings is not None:
            load_embedding_model(name, section.cluster.embeddings)


def _known_partitions(corpus: CorpusConfig) -> tuple[str, ...] | None:
    """Name the partitions; None where the text decides on them."""
    split = corpus.source == "demo" or any(section.is_split for section in corpus.partitions.values())
    return None if split else tuple(corpus.partitions)


def _check_names(request: Request, *, trains_seed: bool) -> None:
    corpus, mixture = request.config.corpus, request.config.seed.mixture
    names, is_cut = _known_partitions(corpus), corpus.base_units_tokens is not None
    if names is None:
        return
    _check_rebuilt(request.rebuild, names, cut=is_cut)
    if corpus.groups:
        group_units(names, {name: (name,) for name in names}, corpus.groups)
    if trains_seed and not isinstance(mixture, str):
        _check_mixture(mixture, names, cut=is_cut)


def _check_rebuilt(asked: Collection[str], names: Collection[str], *, cut: bool) -> None:
    known = (EVERYTHING, SEED, *names)
    for name in sorted(asked):
        if name not in (*known, ALL_MEMBERS) and not (cut and _is_unit(name, names)):
            raise ConfigError(f"--rebuild {name}: no such member; there are {', '.join(known)}")


def _check_mixture(weights: Mapping[str, float], names: Collection[str], *, cut: bool) -> None:
    for name, weight in weights.items():
        if weight > 0 and name not in names and not (cut and _is_unit(name, names)):
            raise ConfigError(
                f"[seed] mixture: the mixture uses partitions that are not there: {name}; there are "
                f"{', '.join(names)}: correct the name, or give it a [corpus.partitions.{name}] section"
            )


def _is_unit(name: str, partitions: Collection[str]) -> bool:
    return any(name.startswith(f"{partition}-") for partition in partitions)


def _check_stopping(where: str, corpus: CorpusConfig) -> None:
    if corpus.source == "demo" or corpus.kept_out != HeldOutSize():
        return
    for name, section in corpus.partitions.items():
        if name not in corpus.held_out and not section.is_split:
            raise ConfigError(
                f"{where} early_stopping: nothing of partition {name!r} is held out: set [corpus] held_out_share above "
                "0"
            )


def _check_gpus(where: str, recipe: Recipe, *, here: bool) -> None:
    if recipe.fsdp and here and 0 < (seen := torch.cuda.device_count()) < recipe.fsdp:
        raise PoolError(
            f"{where} fsdp = {recipe.fsdp} takes {recipe.fsdp} GPUs, and {seen} of them can be seen: lower it, or show "
            "it more (by CUDA_VISIBLE_DEVICES)"
        )


def _check_room(request: Request, parameters: int) -> None:
    """Refuse a build whose weights alone are larger than the free disk; text and training take more."""
    config = request.config
    parts = [SEED, *(_known_partitions(config.corpus) or ("at least one",))]
    needed = sum(request.is_new(name) for name in parts) * parameters * _BYTES_A_PARAMETER
    free = disk_free(config.folder)
    if needed > free:
        raise PoolError(
            f"pool {config.name!r}: its new models take {needed / 1e9:,.1f} GB, and the disk of {config.folder} has "
            f"{free / 1e9:,.1f} GB left; make room, or set `root` to another disk"
        )
