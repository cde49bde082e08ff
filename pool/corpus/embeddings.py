"""Documents as vectors of a model that the user has: the mean over tokens of its last hidden states, of unit length.

Only a document's beginning is read. Batches are filled in the order of length, and each is computed on one thread, as
many at a time as torch has threads: the vectors hang neither on the number of cores nor, but for rounding, on what
else is in their batch.

The files of a model that texts are embedded by: found, checked as those of a given seed are, and digested.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, PreTrainedModel

from pool.checkpoints.checkpoint import check_finite
from pool.checkpoints.foreign import TOKENIZER, ForeignFiles, check_vocabulary, find_foreign, load_weights, rows_of
from pool.engines.resources import give_back_memory
from pool.errors import CorpusError, PoolError, first_line
from pool.files.digests import DigestOf


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


TOKENS = 256
"""Most tokens read of a document, special ones included; fewer where the model was made for fewer."""
_CHARACTERS = 16 * TOKENS
_DOCUMENTS_AT_ONCE = 1024
"""Documents tokenised and put in order at once."""
_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 32768}
"""In a batch, of which there are as many in memory as torch has threads."""
_BEHIND = ("pooler.",)
"""What some encoders have behind their last hidden states, and a checkpoint with a head of its own lacks."""

Embeddings = npt.NDArray[np.float32]
"""N documents by D dimensions, each row of unit length."""


@dataclass(frozen=True)
class EmbeddingModel:
    """A checked model in float32, and its tokenizer, which cuts texts off; `where` is what messages call it."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    where: str

    @property
    def filler(self) -> int:
        """The token that shorter documents of a batch are filled up with: some models count positions by it."""
        return int(getattr(self.model.config, "pad_token_id", None) or 0)

    @torch.inference_mode()
    def means(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the mean of the last hidden states (B, D) over the tokens (B, T) where the mask is 1.

        Raises `CorpusError` for a model that cannot read them.
        """
        try:
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            means: torch.Tensor = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        except Exception as error:  # models raise many types for one fact: not made for this
            raise CorpusError(
                f"{self.where} cannot embed {ids.shape[1]} tokens of text: {first_line(error)}; give an encoder or a "
                "decoder of text alone, or a smaller one"
            ) from None
        return means


def load_embedding_model(name: str, folder: Path) -> EmbeddingModel:
    """Load the model that splits partition `name`, from safetensors and without code of its own.

    Raises `CorpusError` naming what is missing or does not fit.
    """
    with as_corpus_error():
        files = find_embedding_model(name, folder)
        where = f"{called(name)}: {folder}"
        model = _load_model(files, called(name))
        tokenizer = _load_tokenizer(files.tokenizer / TOKENIZER, called(name))
        check_vocabulary(model, tokenizer.get_vocab().values(), where)
        rows = rows_of(model, where)
    longest = min(TOKENS, _positions(model) or TOKENS)
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    ready = EmbeddingModel(model, tokenizer, where)
    probe = torch.arange(longest)[None] % rows
    ready.means(probe, torch.ones_like(probe))  # here, as a GPU would only say that something was out of bounds
    return ready


def _load_model(files: ForeignFiles, what: str) -> PreTrainedModel:
    loaded = load_weights(AutoModel, files.folder, what, "a model")
    where = f"{what}: {files.folder}"
    loaded.check_complete(where, may_spare=True, may_lack=_BEHIND)
    check_finite(loaded.model, where, "give a checkpoint from before its training went astray")
    if loaded.model.config.is_encoder_decoder:
        raise PoolError(f"{where} is an encoder with a decoder; give one or the other, saved by itself")
    loaded.model.config.use_cache = False
    return loaded.model


def _positions(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model was made for, None where it says none: some count them from each other."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def _load_tokenizer(path: Path, what: str) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain exceptions
        raise PoolError(
            f"{what}: {path} is not a tokenizer that can be loaded: {first_line(error)}; save it again"
        ) from None


class Embedder:
    """Vectoriser by a model, on a GPU where torch sees one; `watch` is told how many documents it embedded so far."""

    def __init__(self, model: EmbeddingModel, watch: Callable[[int], None] = lambda done: None) -> None:
        self._model, self._watch, self._done = model, watch, 0
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.nn.Module.to(model.model, self._device)

    def fit(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of the sample: there is nothing to learn from it."""
        return self.of(texts)

    def of(self, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of documents (N, D). Raises `CorpusError` where the model's states are not finite."""
        parts = [
            self._some(texts[first : first + _DOCUMENTS_AT_ONCE]) for first in range(0, len(texts), _DOCUMENTS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def leave(self) -> None:
        """Give the GPU back."""
        torch.nn.Module.to(self._model.model, "cpu")
        give_back_memory()

    def _some(self, texts: Sequence[str]) -> Embeddings:
        """Embed documents in the order of their length; one without tokens is read as a filler."""
        beginnings = [text[:_CHARACTERS] for text in texts]
        ids = [each.ids or [self._model.filler] for each in self._model.tokenizer.encode_batch_fast(beginnings)]
        batches = list(_batches([len(each) for each in ids], _TOKENS_AT_ONCE[self._device.type]))
        outcomes: list[Embeddings] = []
        for vectors in self._outcomes([[ids[number] for number in batch] for batch in batches]):
            outcomes.append(vectors)
            self._done += len(vectors)
            self._watch(self._done)
        found = np.concatenate(outcomes)[np.argsort(np.concatenate(batches))]
        if not np.isfinite(found).all():
            raise CorpusError(f"{self._model.where}: its hidden states of some text are not finite; give another model")
        return found

    def _outcomes(self, batches: list[list[list[int]]]) -> Iterator[Embeddings]:
        if self._device.type != "cpu":
            yield from map(self._embed, batches)
            return
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
                yield from workers.map(self._embed, batches)
        finally:
            torch.set_num_threads(threads)  # the workers' one is what torch gives to threads to come

    def _embed(self, rows: list[list[int]]) -> Embeddings:
        """Embed documents of some tokens each, filled up to the longest (B, T), and masked there."""
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        ids = torch.full(mask.shape, self._model.filler)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        means = self._model.means(ids.to(self._device), mask.to(self._device))
        vectors: Embeddings = torch.nn.functional.normalize(means).cpu().numpy()
        return vectors


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the numbers of documents in batches of like lengths: (B, T) of at most so many tokens, or B = 1."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if batch and (len(batch) + 1) * lengths[number] > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
