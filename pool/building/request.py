"""A build as it is asked for, and the folder for its new parts until all of them are there."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pool.config.pool_file import PoolFile
from pool.config.recipe import OptionMark, Recipe
from pool.corpus.files import TextDigest, digest_text
from pool.files.digests import Watcher, digest_json
from pool.files.names import file_name
from pool.files.records import MANIFEST
from pool.parts.layout import CORPUS, POOL_RECORD, SEED, TOKENIZER, PoolLayout, member_part, stage_folder

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
        asked = {EVERYTHING, SEED} & self.rebuild or file_name(name) in map(file_name, self.rebuild)
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
