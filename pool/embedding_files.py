"""The files of a model that texts are embedded by: found, checked as those of a given seed are, and digested."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pool.checkpoints.others_files import TOKENIZER, ForeignFiles, find_foreign
from pool.errors import CorpusError, PoolError
from pool.files.seen_files import DigestOf


def find_embedding_model(name: str, folder: Path) -> ForeignFiles:
    """Find and check the files of the model that splits partition `name`, before any of them is loaded.

    Raises `CorpusError` for a folder that is none, without safetensors or a tokenizer, or that asks for code.
    """
    with as_corpus_error():
        return find_foreign(folder, called(name))


def describe_embedding_model(name: str, folder: Path, digest_of: DigestOf) -> dict[str, str]:
    """Say what decides a model's embeddings: the content of its files, wherever they are. Raises `CorpusError`."""
    files = replace(find_embedding_model(name, folder), digest_of=digest_of)
    try:
        return {
            "weights": files.weights_digest,
            "config": files.config_digest,
            "tokenizer": digest_of(files.tokenizer / TOKENIZER),
        }
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{called(name)}: {error.filename or folder}: {reason}; give a folder to be read") from None


def called(name: str) -> str:
    """Return what messages call the model that splits partition `name`."""
    return f"[corpus.partitions.{name}.cluster] embeddings"


@contextmanager
def as_corpus_error() -> Iterator[None]:
    """Raise what is wrong with a checkpoint as `CorpusError`: the text cannot be split without it."""
    try:
        yield
    except PoolError as error:
        raise CorpusError(str(error)) from None
