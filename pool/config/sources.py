"""The sections [corpus.partitions.NAME] and [corpus.held_out.NAME]: places and formats of text."""

import codecs
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pool.errors import ConfigError
from pool.files.names import located
from pool.files.toml import Config, HubName

TEXT_ROOT = "MIXSCOUT_TEXT_ROOT"
"""The variable of the environment that wins over [corpus] text_root."""
CHUNK_BYTES = 2**20
"""Text read at once; ten times as much took 50 MB more memory for rows as Python objects."""


def _is_commit(revision: str) -> str:
    if re.fullmatch("[0-9a-f]{40}", revision) is None:
        raise ValueError("a branch or tag may be other text tomorrow: give the commit, all 40 digits of it")
    return revision


Commit = Annotated[str, AfterValidator(_is_commit)]
"""A commit on the hub."""


def _is_encoding(name: str) -> str:
    try:
        "".encode(name)
        b"".decode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise ValueError(
            "no such encoding of text; such are utf-8, latin-1, cp1252, utf-16, shift_jis, gb18030"
        ) from None
    return name


Encoding = Annotated[str, AfterValidator(_is_encoding)]
"""The name of an encoding of text that Python knows."""


class TextSource(Config):
    """Text of one partition or one held-out domain: files, or a data set of the Hugging Face hub."""

    files: tuple[Path, ...] = ()
    """Paths, or patterns (`*`, `?`, `[]`, `**`) where there is no such path, relative to [corpus] text_root; `~` and
    environment variables (`$NAME`, `${NAME}`) are put in. Empty files that a pattern finds are passed over, counted in
    one line; an empty file given by name is an error. Compressed files (gzip, Zstandard, bzip2, xz) are read as they
    are; archives, Git LFS pointers and other files without text are refused by name."""
    hub: HubName | None = None
    """Name of a data set on the Hugging Face hub, instead of `files`. The files of the subset and split (Parquet, JSON,
    CSV, Arrow, text) are downloaded once, if the environment allows a network by HF_HUB_OFFLINE=0; no code of a data
    set is ever fetched or run."""
    revision: Commit | None = None
    """Commit of the data set on the hub, all 40 digits."""
    subset: str | None = None
    """Name of a configuration of the data set on the hub."""
    split: str = "train"
    """Split of a data set on the hub, or of a saved folder of several splits."""
    format: Literal["jsonl", "text", "parquet", "saved", "csv", "tsv"] = "jsonl"
    """Format of the files. `jsonl` (JSON Lines, or one JSON list), `csv`, `tsv`, `parquet`: a document a row, other
    columns ignored; the first row of `csv` and `tsv` names the columns. `text`: see `document`. `saved`: folders
    written by `save_to_disk` of `datasets`."""
    document: Literal["paragraph", "line", "file"] = "paragraph"
    """Unit of one document in `text` files; a blank line ends a paragraph."""
    column: str = "text"
    """Column of the text (all formats but `text`), `outer.inner` for a column inside another. Messages of a
    conversation (`role` and `content`, or `from` and `value`) become `role: content`, with a blank line between two."""
    encoding: Encoding | None = None
    """Encoding of `text`, `jsonl`, `csv` and `tsv` files, such as `latin-1` or `cp1252`; UTF-8 when left out, or UTF-16
    where a byte order mark says so."""

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if bool(self.files) == (self.hub is not None):
            raise ValueError("say where the text is by one of `files` and `hub`")
        if self.hub is not None and self.revision is None:
            raise ValueError(
                f"hub data set {self.hub!r} has no `revision`: give the commit (40 digits), so that the text stays "
                "the same"
            )
        if self.hub is None and (self.revision is not None or self.subset is not None):
            raise ValueError("`revision` and `subset` belong to a `hub` data set: take them away, or give `hub`")
        if self.encoding is not None and (self.hub is not None or self.format in ("parquet", "saved")):
            raise ValueError("`encoding` is of text, jsonl, csv and tsv files: take it away, the others say their own")
        return self

    @property
    def is_plain_text(self) -> bool:
        """Whether rows are plain text, without columns of the user."""
        return self.hub is None and self.format == "text"

    @property
    def text_column(self) -> str:
        return "text" if self.is_plain_text else self.column

    def resolved(self, base: Path) -> Self:
        return self.model_copy(update={"files": tuple(located(base, file) for file in self.files)})


class ClusterConfig(Config):
    """Partitions by topic: k-means of documents as vectors, from TF-IDF or a model."""

    k: int = Field(ge=2, le=512)
    """Number of clusters; each is a partition, named by its most telling words."""
    sample_documents: int = Field(20_000, ge=2)
    """Documents used to find the clusters; the others join the nearest cluster."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of k-means, and of the decomposition of TF-IDF."""
    embeddings: Path | None = None
    """Folder of a model for embeddings instead of TF-IDF, relative to the pool file: config.json, safetensors and
    tokenizer.json of a sentence encoder, another encoder, or a decoder such as a seed checkpoint. It reads the
    beginning of every document, in minutes without a GPU; no pickle and no code of a model is ever run."""


class PartitionSource(TextSource):
    """Text of one partition, or of several after a split."""

    partition_by: str | None = None
    """Column of values to split the text by, into partitions named NAME-value, spelt as in the text; rows without a
    value go to NAME-missing. It may be `outer.inner`, or named by folders, as in lang=de/part-0.parquet."""
    max_partitions: int | None = Field(None, ge=2)
    """Most partitions of `partition_by`."""
    rest: Literal["refuse", "merge"] = "refuse"
    """What to do with more partitions than that: `refuse`, or `merge` the smallest into NAME-other."""
    cluster: ClusterConfig | None = None
    """Split the text by topic."""

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.partition_by is not None and self.cluster is not None:
            raise ValueError("partition_by and cluster both say how the text is split: keep one")
        if self.partition_by is not None and self.is_plain_text:
            raise ValueError("partition_by needs a column, and plain text has none: take it away, or use JSONL")
        if self.partition_by is None and self.max_partitions is not None:
            raise ValueError("max_partitions does nothing without partition_by: set both")
        if self.max_partitions is None and self.rest == "merge":
            raise ValueError("rest = 'merge' does nothing without max_partitions: set both")
        return self

    def with_model_from(self, base: Path) -> Self:
        if self.cluster is None or self.cluster.embeddings is None:
            return self
        absolute = {"embeddings": located(base, self.cluster.embeddings).resolve()}
        return self.model_copy(update={"cluster": self.cluster.model_copy(update=absolute)})

    @property
    def is_split(self) -> bool:
        return self.partition_by is not None or self.cluster is not None


def text_folder(base: Path, written: Path) -> Path:
    """Return the folder of relative `files`: the environment's, else as written. Raises `ConfigError`."""
    given = os.environ.get(TEXT_ROOT)
    if given is None:
        return located(base, written)
    try:
        return located(base, Path(given))
    except ConfigError as error:
        raise ConfigError(f"{TEXT_ROOT} in the environment: {error}") from None
