"""Documents as vectors of a user's model: the mean of its last hidden states over tokens, of unit length.

Only a document's beginning is read. Batches are filled in order of length and computed on one thread each, as many at a
time as torch has threads. So vectors depend neither on the number of cores nor, but for rounding, on their batch.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, PreTrainedModel

from pool.checkpoints.checkpoint import check_finite
from pool.checkpoints.foreign import TOKENIZER, ForeignFiles, as_corpus_error, called_embeddings, find_foreign
from pool.checkpoints.plain_text import for_text
from pool.checkpoints.weights import check_vocabulary, load_weights, rows_of
from pool.engines.resources import give_back_memory
from pool.errors import CorpusError, PoolError, first_line

TOKENS = 256
"""Most tokens read of a document, special ones included; fewer for a model of fewer positions."""
_CHARACTERS = 16 * TOKENS
_DOCUMENTS_AT_ONCE = 1024
_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 32768}
"""Tokens of one batch, by device."""
_BEHIND = ("pooler.",)
"""Weights behind the last hidden states; a checkpoint with a head of its own lacks them."""

Embeddings = npt.NDArray[np.float32]
"""N documents by D dimensions, each row of unit length."""


@dataclass(frozen=True)
class EmbeddingModel:
    """A checked float32 model with a truncating tokenizer; `where` names it in messages."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    where: str

    @property
    def filler(self) -> int:
        """The padding token; some models count positions by it."""
        return int(getattr(self.model.config, "pad_token_id", None) or 0)

    @torch.inference_mode()
    def means(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the mean of the last hidden states (B, D) over unmasked tokens (B, T).

        Raises `CorpusError` for a model unable to read the tokens.
        """
        try:
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            means: torch.Tensor = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        except Exception as error:  # models raise many types for one fact
            raise CorpusError(
                f"{self.where} cannot embed {ids.shape[1]} tokens of text: {first_line(error)}; give an encoder or a "
                "decoder of text alone, or a smaller one"
            ) from None
        return means


def load_embedding_model(name: str, folder: Path) -> EmbeddingModel:
    """Load the embedding model of partition `name`. Raises `CorpusError` naming the missing or unfit part."""
    return load_encoder(called_embeddings(name), folder)


def load_encoder(called: str, folder: Path) -> EmbeddingModel:
    """Load an encoder from safetensors, without code of its own; `called` is its option in messages.

    Raises `CorpusError` naming the missing or unfit part.
    """
    with as_corpus_error():
        files = find_foreign(folder, called, loaded_as="AutoModel")
        where = f"{called}: {folder}"
        model = _load_model(files, called)
        tokenizer = _load_tokenizer(files.tokenizer / TOKENIZER, called)
        check_vocabulary(model, tokenizer.get_vocab().values(), where)
        rows = rows_of(model, where)
    positions = getattr(model.config, "max_position_embeddings", None)  # absent or -1: relative positions
    longest = min(TOKENS, positions) if isinstance(positions, int) and positions > 0 else TOKENS
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    ready = EmbeddingModel(model, tokenizer, where)
    probe = torch.arange(longest)[None] % rows
    ready.means(probe, torch.ones_like(probe))  # here: a GPU would only report an index out of bounds
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


def _load_tokenizer(path: Path, what: str) -> Tokenizer:
    try:
        return for_text(path.read_text(encoding="utf-8"), bare=False).core
    except Exception as error:  # tokenizers raises plain exceptions
        raise PoolError(
            f"{what}: {path} is not a tokenizer that can be loaded: {first_line(error)}; save it again"
        ) from None


class Embedder:
    """Embed documents, on a GPU if torch sees one; `watch` is told the number done so far."""

    def __init__(self, model: EmbeddingModel, watch: Callable[[int], None] = lambda done: None) -> None:
        self._model, self._watch, self._done = model, watch, 0
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.nn.Module.to(model.model, self._device)

    def fit(self, texts: Sequence[str]) -> Embeddings:
        return self.of(texts)

    def of(self, texts: Sequence[str]) -> Embeddings:
        """Return vectors (N, D). Raises `CorpusError` for hidden states that are not finite."""
        parts = [
            self._some(texts[first : first + _DOCUMENTS_AT_ONCE]) for first in range(0, len(texts), _DOCUMENTS_AT_ONCE)
        ]
        return np.concatenate(parts)

    def leave(self) -> None:
        torch.nn.Module.to(self._model.model, "cpu")
        give_back_memory()

    def _some(self, texts: Sequence[str]) -> Embeddings:
        """Embed documents in order of length; a document without tokens is read as padding."""
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
            torch.set_num_threads(threads)  # else torch gives new threads the workers' one

    def _embed(self, rows: list[list[int]]) -> Embeddings:
        """Embed the tokens of documents, padded and masked to the longest (B, T)."""
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        ids = torch.full(mask.shape, self._model.filler)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        means = self._model.means(ids.to(self._device), mask.to(self._device))
        vectors: Embeddings = torch.nn.functional.normalize(means).cpu().numpy()
        return vectors


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the numbers of documents in batches of like lengths: at most `tokens` a batch (B, T), or B = 1."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if batch and (len(batch) + 1) * lengths[number] > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
