"""The pool file: corpus, tokenizer, model, seed and recipe as checked values."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from pool.config.recipe import ModelShape, Recipe, SeedRecipe
from pool.config.sources import PartitionSource, TextSource, text_folder
from pool.engines.resources import Demand
from pool.errors import ConfigError, MixscoutError
from pool.files.names import Name, as_typed, file_name, located
from pool.files.toml import Config, HubName, Revision, as_options, read_config
from pool.mixture import published
from pool.progress import say


@dataclass(frozen=True)
class ScoredText:
    """Most scored tokens of a domain's split, and of one document."""

    tokens: int
    document_tokens: int


@dataclass(frozen=True)
class HeldOutSize:
    """Documents of a partition kept out of training: a share or a number."""

    share: float = 0.0
    documents: int | None = None

    def of(self, count: int) -> int:
        return math.ceil(count * self.share) if self.documents is None else min(self.documents, count)


class CorpusConfig(Config):
    """The source of the text, and the part kept out of training."""

    source: Literal["files", "demo"] = "files"
    """`files`: the sections below. `demo`: real text of the Python installation itself."""
    text_root: Path = Path()
    """Folder of relative `files`, itself relative to the pool file; the environment variable MIXSCOUT_TEXT_ROOT wins
    over this key, and the option `--text-root` over both."""
    partitions: dict[Name, PartitionSource] = {}
    """Training text, one section for each partition."""
    held_out: dict[Name, TextSource] = {}
    """Held-out domains with their own text, outside all partitions."""
    held_out_share: float = Field(0.1, ge=0, le=0.5)
    """Share of each partition's documents kept out of training, as a held-out domain of the same name;
    half of it is the search split, half the test split. 0 makes no such domain."""
    held_out_documents: int | None = Field(None, ge=2)
    """Number of such documents of each partition, instead of a share."""
    base_units_tokens: int | None = Field(None, ge=1)
    """Cut every partition with more training tokens by document into near-equal base units of about this size, named
    PARTITION-number. Each unit has its own member, and keeps up to train_tokens."""
    groups: dict[Name, tuple[str, ...]] = {}
    """Group -> patterns (`*`, `?`) of partitions; [space] units = "macro" merges the members of a group evenly. A
    partition outside all groups is a group of its own, with all of its base units."""
    drop_overlap: bool = False
    """Leave out training documents with a run of 13 words from scored held-out text."""
    train_tokens: int = Field(400_000, ge=1)
    """Most training tokens kept of a partition or base unit. A recipe of more tokens reads them again, and a build says
    so; caps and proportions count all tokens of the partition."""
    held_out_tokens: int = Field(8_192, ge=1)
    """Most tokens kept per held-out domain and split."""
    max_unknown_share: float = Field(0.1, ge=0, le=1)
    """Most of a partition's or held-out domain's tokens that may stand for text unknown to a given seed's tokenizer, as
    `[UNK]` does; more of them are refused. Does not change the corpus."""
    held_out_document_tokens: int = Field(1_024, ge=1)
    """Most tokens scored of one held-out document (its beginning)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "demo" and (self.partitions or self.held_out):
            raise ValueError("source = 'demo' brings its own partitions and held-out domains; remove the tables")
        if self.source == "files" and not self.partitions:
            raise ValueError("no partition: add a [corpus.partitions.NAME] table, or set source = 'demo'")
        reserved = sorted(set(self.partitions) & {"all", "all-members", "seed"})
        if reserved:
            raise ValueError(f"a partition cannot be called {reserved[0]!r}: `--rebuild` means something else by it")
        shared = sorted(set(self.partitions) & set(self.held_out))
        if shared and self.kept_out != HeldOutSize():
            raise ValueError(
                f"held-out domain {shared[0]!r} has the name of a partition: rename it, or set held_out_share = 0"
            )
        if self.held_out_documents is not None and "held_out_share" in self.model_fields_set:
            raise ValueError("held_out_share and held_out_documents say the same thing in two ways: keep one")
        return self

    @property
    def scored(self) -> ScoredText:
        return ScoredText(self.held_out_tokens, self.held_out_document_tokens)

    @property
    def kept_out(self) -> HeldOutSize:
        if self.held_out_documents is not None:
            return HeldOutSize(documents=self.held_out_documents)
        return HeldOutSize(share=self.held_out_share)


class TokenizerConfig(Config):
    """A byte-level BPE tokenizer, trained once on the corpus."""

    vocabulary: int = Field(2048, ge=257)
    """Number of tokens, the 256 bytes and the end-of-text token included."""
    sample_bytes: int = Field(4_000_000, ge=1_000)
    """Bytes of training text for the tokenizer, spread evenly over the partitions."""


class SeedConfig(Config):
    """The seed checkpoint, the shared ancestor of all members: trained here, or trained already."""

    mixture: Literal["uniform", "proportional"] | dict[Name, float] = "uniform"
    """Training mixture of the seed: a named one, or a weight for each partition."""
    initial_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the initial parameters."""
    checkpoint: Path | None = None
    """Folder of a checkpoint to start from instead, relative to the pool file: safetensors, config.json and
    tokenizer.json, such as `checkpoint-N` of a Trainer run; or a file MODEL.gguf (extra `gguf`), whose quantised values
    become float32. It brings model and tokenizer."""
    hub: HubName | None = None
    """Name of a model on the Hugging Face hub to start from instead. Its safetensors and JSON files are downloaded
    once, if the environment allows a network by HF_HUB_OFFLINE=0; no code of a model is ever run."""
    revision: Revision | None = None
    """Commit (all 40 digits) or tag of the model on the hub. The pool records a tag's commit when it takes the seed
    over; if the tag moves later, the pool stays as it is until `--rebuild seed`."""
    tokenizer: Path | None = None
    """Folder of tokenizer.json, relative to the pool file, if the checkpoint's folder lacks it."""
    context: int | None = Field(None, ge=8)
    """Window length in tokens, in training and in scoring, for a `checkpoint` or `hub` model; at most the model's own
    limit."""
    recipe: SeedRecipe = SeedRecipe()
    """How the seed is trained."""

    @model_validator(mode="after")
    def _check_given(self) -> Self:
        if self.checkpoint is not None and self.hub is not None:
            raise ValueError("checkpoint and hub both say what to start from: keep one")
        if self.hub is not None and self.revision is None:
            raise ValueError(
                f"hub model {self.hub!r} has no `revision`: give its commit (40 digits) or a tag, so that it stays the "
                "same"
            )
        if self.hub is None and self.revision is not None:
            raise ValueError("`revision` belongs to a `hub` model: take it away, or give `hub`")
        if self.is_given and self.context is None:
            raise ValueError(
                "a seed that was trained already needs `context`, the window length in tokens here; at most what the "
                "model was made for"
            )
        if not self.is_given and (self.context is not None or self.tokenizer is not None):
            raise ValueError(
                "`context` and `tokenizer` belong to a `checkpoint` or `hub` model; for a seed trained here set "
                "[model] context and [tokenizer]"
            )
        trained_by = sorted(self.model_fields_set & {"mixture", "initial_seed", "recipe"})
        if self.is_given and trained_by:
            raise ValueError(f"`{trained_by[0]}` says how a seed is trained, and this one was already: remove it")
        return self

    @property
    def is_given(self) -> bool:
        return self.checkpoint is not None or self.hub is not None

    def resolved(self, base: Path) -> Self:
        paths = {"checkpoint": self.checkpoint, "tokenizer": self.tokenizer}
        return self.model_copy(
            update={key: located(base, path).resolve() for key, path in paths.items() if path is not None}
        )


_PLACEHOLDER = "POOL.toml"


class PoolFile(Config):
    """A pool file."""

    title: ClassVar[str] = "a pool file"

    name: Name
    """Name of the pool, in the folder ROOT/pools/NAME."""
    root: Path = Path()
    """Folder of pools, database and reports, relative to the pool file."""
    corpus: CorpusConfig
    """The text."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The tokenizer."""
    model: ModelShape = ModelShape()
    """The model."""
    seed: SeedConfig = SeedConfig()
    """The seed checkpoint."""
    recipe: Recipe = Recipe()
    """How members and ground truths are trained."""
    _typed: str = PrivateAttr(_PLACEHOLDER)
    _text_root: str = PrivateAttr("")

    @model_validator(mode="after")
    def _check(self) -> Self:
        described = sorted(self.model_fields_set & {"model", "tokenizer"})
        if self.seed.is_given and described:
            raise ValueError(
                f"[{described[0]}] describes a seed that is trained here, and [seed] names a checkpoint, which brings "
                f"its own: remove [{described[0]}]"
            )
        if self.recipe.continue_optimizer and self.seed.recipe.early_stopping:
            raise ValueError(
                "[recipe] continue_optimizer: the seed's best checkpoint is kept, but its optimizer is that of the last"
                " step; leave out [seed.recipe.early_stopping] or continue_optimizer"
            )
        if self.seed.is_given and self.recipe.continue_optimizer:
            raise ValueError(
                "[recipe] continue_optimizer: of a seed that was trained already no optimizer's state is read; "
                "leave it out"
            )
        if self.seed.is_given and self.recipe.reads_seed_text:
            raise ValueError(
                "[recipe] reads the seed's training text, which is not known of a seed that was trained already; leave "
                "replay_share and `ewc` out"
            )
        return self

    @property
    def folder(self) -> Path:
        return self.root / "pools" / file_name(self.name)

    @property
    def own_tokenizer(self) -> TokenizerConfig | None:
        """How the tokenizer is trained; None where it comes with a given seed."""
        return None if self.seed.is_given else self.tokenizer

    @property
    def demand(self) -> Demand:
        """What the training of a member or a ground truth takes."""
        trained = self.own_tokenizer
        return Demand(self.recipe.resources, self.model.parameters(trained.vocabulary) if trained else None)

    @property
    def context(self) -> int:
        return self.seed.context or self.model.context


@contextmanager
def naming(config: PoolFile) -> Iterator[None]:
    """Put the pool file's path where errors of the block recommend a command on POOL.toml."""
    try:
        yield
    except MixscoutError as error:
        told = f"pool build {_PLACEHOLDER}", f"pool build {config._typed}{config._text_root}"
        error.args = tuple(str(part).replace(*told).replace(_PLACEHOLDER, config._typed) for part in error.args)
        raise


def read_pool_file(path: Path, text_root: Path | None = None) -> PoolFile:
    """Read a pool file and make its paths absolute; `text_root` replaces its own. Raises `ConfigError`."""
    config = read_config(path, PoolFile)
    config = config.model_copy(update={"seed": _with_published_mixture(config.seed, path)})
    try:
        found = _with_absolute_paths(config, path.resolve().parent, text_root)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    found._typed = as_typed(path) + as_options(path)
    found._text_root = f" --text-root {as_typed(text_root)}" if text_root else ""
    for name, table in found.corpus.partitions.items():
        model = table.cluster and table.cluster.embeddings
        if model and model.is_relative_to(found.folder.resolve()):
            raise ConfigError(
                f"{path}: [corpus.partitions.{name}.cluster] embeddings: {model} is in the pool itself, which may be "
                "rebuilt; copy it elsewhere"
            )
    return found


def _with_absolute_paths(config: PoolFile, base: Path, text_root: Path | None) -> PoolFile:
    text_root = text_folder(base, config.corpus.text_root) if text_root is None else located(Path(), text_root)
    partitions = {
        name: table.resolved(text_root).with_model_from(base) for name, table in config.corpus.partitions.items()
    }
    held_out = {name: table.resolved(text_root) for name, table in config.corpus.held_out.items()}
    update = {"text_root": text_root.resolve(), "partitions": partitions, "held_out": held_out}
    corpus = config.corpus.model_copy(update=update)
    root = located(base, config.root).resolve()
    return config.model_copy(update={"root": root, "corpus": corpus, "seed": config.seed.resolved(base)})


def _with_published_mixture(seed: SeedConfig, path: Path) -> SeedConfig:
    if isinstance(seed.mixture, str):
        return seed
    try:
        mixture, note = published(seed.mixture)
    except ValueError as error:
        raise ConfigError(f"{path}: [seed] mixture: {error}") from None
    if note:
        say(f"{path}: [seed] mixture: {note}")
    return seed.model_copy(update={"mixture": mixture.as_dict()})
