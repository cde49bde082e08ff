"""The pool file (TOML): which corpus, which seed, which recipe. Every field with its unit."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pool.config.recipe import ModelShape, Recipe, SeedRecipe
from pool.config.sources import PartitionSource, TextSource
from pool.errors import ConfigError
from pool.files.toml import Config, HubName, Name, Revision, read_config


@dataclass(frozen=True)
class ScoredText:
    """How much held-out text can be scored: most tokens of a domain's split, and of one document."""

    tokens: int
    document_tokens: int


@dataclass(frozen=True)
class HeldOutSize:
    """How much of a partition is kept out of training: a share of its documents, or a number of them."""

    share: float = 0.0
    documents: int | None = None

    def of(self, count: int) -> int:
        """Return how many of `count` documents are kept out."""
        return math.ceil(count * self.share) if self.documents is None else min(self.documents, count)


class CorpusConfig(Config):
    """Where the text comes from, and how much of it is kept out of training."""

    source: Literal["files", "demo"] = "files"
    """`files`: the tables below. `demo`: real text found in the Python installation itself."""
    text_root: Path = Path()
    """Folder that `files` are relative to, itself relative to the pool file; the environment variable
    MIXSCOUT_TEXT_ROOT wins, and the option `--text-root` over both."""
    partitions: dict[Name, PartitionSource] = {}
    """Training text, one table per partition."""
    held_out: dict[Name, TextSource] = {}
    """Held-out domains with files of their own, that no partition covers."""
    held_out_share: float = Field(0.1, ge=0, le=0.5)
    """Share of each partition's documents kept out of training, as a held-out domain of the same name;
    half of it is the search split, half the test split. 0 makes no such domain."""
    held_out_documents: int | None = Field(None, ge=2)
    """Number of each partition's documents kept out of training in this way, instead of a share."""
    base_units_tokens: int | None = Field(None, ge=1)
    """Cut every partition that has more training tokens than this into near-equal base units of about so many, by
    document, named PARTITION-number: each has a member of its own, and train_tokens is kept of each."""
    groups: dict[Name, tuple[str, ...]] = {}
    """Group -> patterns (`*`, `?`) of partitions, whose members [space] units = "macro" merges evenly; a partition that
    is in none is a group of its own, with all of its base units."""
    drop_overlap: bool = False
    """Leave out training documents that share a run of 13 words with held-out text that is scored."""
    train_tokens: int = Field(400_000, ge=1)
    """Most training tokens kept of a partition, or of a base unit. What is trained here reads these alone, again where
    its recipe asks for more, which a build says; caps and proportions go by all that the partition has."""
    held_out_tokens: int = Field(8_192, ge=1)
    """Most tokens kept per held-out domain and split."""
    held_out_document_tokens: int = Field(1_024, ge=1)
    """Most tokens scored of one held-out document (its beginning)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "demo" and (self.partitions or self.held_out):
            raise ValueError("source = 'demo' brings its own partitions and held-out domains; remove the tables")
        if self.source == "files" and not self.partitions:
            raise ValueError("no partition: add a [corpus.partitions.NAME] table, or set source = 'demo'")
        reserved = sorted(set(self.partitions) & {"all", "seed"})
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
        """How much of the held-out text can be scored."""
        return ScoredText(self.held_out_tokens, self.held_out_document_tokens)

    @property
    def kept_out(self) -> HeldOutSize:
        """How much of each partition is kept out of training."""
        if self.held_out_documents is not None:
            return HeldOutSize(documents=self.held_out_documents)
        return HeldOutSize(share=self.held_out_share)


class TokenizerConfig(Config):
    """A byte-level BPE tokenizer, trained once on the corpus and then kept."""

    vocabulary: int = Field(2048, ge=257)
    """Number of tokens, the 256 bytes and the end-of-text token included."""
    sample_bytes: int = Field(4_000_000, ge=1_000)
    """Bytes of training text the tokenizer is trained on, spread evenly over the partitions."""


class SeedConfig(Config):
    """The seed checkpoint: the shared ancestor of all members. It is trained here, or was trained already."""

    mixture: Literal["uniform", "proportional"] | dict[Name, float] = "uniform"
    """What the seed is trained on: a named mixture, or a weight per partition."""
    initial_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the initial parameters."""
    checkpoint: Path | None = None
    """Folder of a checkpoint to start from instead, relative to the pool file: safetensors, config.json and
    tokenizer.json; a `checkpoint-N` of a Trainer run will do. Model and tokenizer are then its own."""
    hub: HubName | None = None
    """Name of a model on the Hugging Face hub to start from instead. It is downloaded once, when the environment allows
    a network by HF_HUB_OFFLINE=0; only safetensors and JSON are, and no code of a model is ever run."""
    revision: Revision | None = None
    """Commit (all 40 digits) or tag of the model on the hub. A tag is looked up when the seed is taken over, and its
    commit recorded; where it moves afterwards, the pool stays as it is until `--rebuild seed`."""
    tokenizer: Path | None = None
    """Folder of the checkpoint's tokenizer.json, relative to the pool file, where it is not beside the weights."""
    context: int | None = Field(None, ge=8)
    """Window length in tokens, in training and in scoring, for a `checkpoint` or `hub` model; at most what the model
    was made for."""
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
        """Whether the seed was trained already."""
        return self.checkpoint is not None or self.hub is not None

    def resolved(self, base: Path) -> Self:
        """Make the paths absolute, relative to a folder."""
        paths = {"checkpoint": self.checkpoint, "tokenizer": self.tokenizer}
        return self.model_copy(update={key: (base / path).resolve() for key, path in paths.items() if path is not None})


class PoolFile(Config):
    """A pool file."""

    name: Name
    """Name of the pool: it is kept in ROOT/pools/NAME."""
    root: Path = Path()
    """Folder that holds pools, database and reports, relative to the pool file."""
    corpus: CorpusConfig
    """The text."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The tokenizer."""
    model: ModelShape = ModelShape()
    """The model."""
    seed: SeedConfig = SeedConfig()
    """The seed checkpoint."""
    recipe: Recipe = Recipe()
    """How members are trained, and the models that confirm a mixture."""

    @model_validator(mode="after")
    def _check_seed(self) -> Self:
        described = sorted(self.model_fields_set & {"model", "tokenizer"})
        if self.seed.is_given and described:
            raise ValueError(
                f"[{described[0]}] describes a seed that is trained here, and [seed] names a checkpoint, which brings "
                f"its own: remove [{described[0]}]"
            )
        return self

    @model_validator(mode="after")
    def _check_recipe(self) -> Self:
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
        """Where the pool is kept."""
        return self.root / "pools" / self.name

    @property
    def own_tokenizer(self) -> TokenizerConfig | None:
        """How the tokenizer is trained; None where it comes with a given seed."""
        return None if self.seed.is_given else self.tokenizer

    @property
    def context(self) -> int:
        """Window length in tokens, in training and in scoring."""
        return self.seed.context or self.model.context


def read_pool_file(path: Path, text_root: Path | None = None) -> PoolFile:
    """Read a pool file and make its paths absolute; `text_root` takes the place of its own. Raises `ConfigError`."""
    config = read_config(path, PoolFile)
    base = path.resolve().parent
    text_root = text_root or base / os.environ.get("MIXSCOUT_TEXT_ROOT", config.corpus.text_root)
    partitions = {
        name: table.resolved(text_root).with_model_from(base) for name, table in config.corpus.partitions.items()
    }
    corpus = config.corpus.model_copy(
        update={
            "text_root": text_root.resolve(),
            "partitions": partitions,
            "held_out": {name: table.resolved(text_root) for name, table in config.corpus.held_out.items()},
        }
    )
    seed = config.seed.resolved(base)
    found = config.model_copy(update={"root": (base / config.root).resolve(), "corpus": corpus, "seed": seed})
    _check_models(path, found)
    return found


def _check_models(path: Path, config: PoolFile) -> None:
    for name, table in config.corpus.partitions.items():
        model = table.cluster and table.cluster.embeddings
        if model and model.is_relative_to(config.folder.resolve()):
            raise ConfigError(
                f"{path}: [corpus.partitions.{name}.cluster] embeddings: {model} is in the pool itself, which may be "
                "rebuilt; copy it elsewhere"
            )
