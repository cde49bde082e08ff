"""Split text by topic: vectors of documents by words or by a model, k-means, topics named by their words.

Topics are found on a sample, the first documents by hash; all others join the nearest topic, page by page. All sums are
made on one thread: several threads add in an order of their own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits

from pool.config.sources import ClusterConfig
from pool.corpus.document_store import DocumentStore, Page, StoredDocuments
from pool.corpus.embeddings import Embedder, load_embedding_model
from pool.errors import CorpusError
from pool.progress import track

WORD = r"(?u)\b[^\W\d_]{3,}\b"
"""A word: three letters or more."""
_FEATURES, _DIMENSIONS = 2**16, 64

Vectors = npt.NDArray[np.floating]
"""N documents by D dimensions."""


class WordVectors:
    """Vectors by words: TF-IDF of hashed words, reduced to few dimensions, of unit length."""

    def __init__(self, documents: int, seed: int) -> None:
        self._pipeline = make_pipeline(
            HashingVectorizer(
                n_features=_FEATURES, alternate_sign=False, norm=None, stop_words="english", token_pattern=WORD
            ),
            TfidfTransformer(sublinear_tf=True),
            TruncatedSVD(min(_DIMENSIONS, documents - 1), random_state=seed),
            Normalizer(copy=False),
        )

    def fit(self, texts: Sequence[str]) -> Vectors:
        """Learn from the sample, and return its vectors (N, D)."""
        with threadpool_limits(limits=1):
            return cast(Vectors, self._pipeline.fit_transform(texts))

    def of(self, texts: Sequence[str]) -> Vectors:
        with threadpool_limits(limits=1):
            return cast(Vectors, self._pipeline.transform(texts))


_CHARACTERS = 20_000
"""Characters read of a document: topics show early, and a long document cannot fill the memory."""
_VOCABULARY = 20_000
_WORDS_IN_NAME = 3

Labels = npt.NDArray[np.int32]
"""The topic's number of each document."""


def split_by_topic(store: DocumentStore, place: str, config: ClusterConfig, *, what: str) -> dict[str, str]:
    """Move the documents of a place into one place per topic; return the places by the topics' names.

    The same text and model give the same topics. Raises `CorpusError` for fewer documents than topics, for text without
    words, and for a model unable to embed the text.
    """
    sample = [text[:_CHARACTERS] for text in islice(store.documents(place), config.sample_documents)]
    if len(sample) < config.k:
        raise CorpusError(f"{what}: {len(sample)} documents cannot be split into {config.k} clusters; lower cluster.k")
    clusters = MiniBatchKMeans(config.k, random_state=config.seed, n_init=5)
    with _vectoriser(config, store.documents(place), len(sample), what) as vectoriser:
        try:
            words = _Words.of(sample)
            vectors = vectoriser.fit(sample)
            with threadpool_limits(limits=1):
                labels: Labels = clusters.fit_predict(vectors)
        except ValueError as error:
            raise CorpusError(f"{what}: cannot be split by topic: {error}; give it other text") from None
        names = words.names(labels, config.k)
        places = [f"{place}, topic {number}" for number in range(config.k)]
        known = iter(labels.tolist())  # the sample: the first documents

        def choose(page: Page) -> list[str]:
            numbers = list(islice(known, len(page.found)))
            others = [text[:_CHARACTERS] for text in replace(page, found=page.found[len(numbers) :]).texts()]
            if others:
                vectors = vectoriser.of(others)
                with threadpool_limits(limits=1):
                    numbers += clusters.predict(vectors).tolist()
            return [places[number] for number in numbers]

        store.reassign(place, choose)
    return {name: goal for name, goal in zip(names, places, strict=True) if len(store.documents(goal))}


@contextmanager
def _vectoriser(
    config: ClusterConfig, documents: StoredDocuments, sample: int, what: str
) -> Iterator[WordVectors | Embedder]:
    if config.embeddings is None:
        yield WordVectors(sample, config.seed)
        return
    model = load_embedding_model(what, config.embeddings)
    with track(f"corpus: embedding {what}, documents", len(documents)) as show:
        embedder = Embedder(model, lambda done: show(done, ""))
        try:
            yield embedder
        finally:
            embedder.leave()


@dataclass(frozen=True)
class _Words:
    """Words of documents: a sparse 0/1 matrix (N, W), and the W words."""

    counts: csr_matrix
    words: Sequence[str]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        counter = CountVectorizer(binary=True, stop_words="english", token_pattern=WORD, max_features=_VOCABULARY)
        return cls(counter.fit_transform(texts), counter.get_feature_names_out())

    def names(self, labels: Labels, k: int) -> list[str]:
        """Name each topic by its most telling words: largest p(w|topic) log (p(w|topic) / p(w)), p over documents."""
        overall = (np.asarray(self.counts.sum(axis=0)).ravel() + 1) / (len(labels) + 1)
        names: list[str] = []
        for number in range(k):
            inside = np.asarray(self.counts[labels == number].sum(axis=0)).ravel()
            share = inside / max(1, int((labels == number).sum()))
            score = share * np.log(np.maximum(share, 1e-12) / overall)
            name = "-".join(str(self.words[at]) for at in np.argsort(-score, kind="stable")[:_WORDS_IN_NAME])
            names.append(f"{name}-{number}" if name in names else name)
        return names
