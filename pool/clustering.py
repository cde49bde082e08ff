"""Splitting text by topic: TF-IDF of hashed words, reduced to a few dimensions, k-means; each topic named by its words.

The topics are found on a sample, the documents whose hashes come first, and given to all documents page by page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits

from pool.document_store import DocumentStore, Page
from pool.errors import CorpusError
from pool.text_source import ClusterConfig

_CHARACTERS = 20_000
"""Of each document, its beginning: topics show early, and one long document cannot fill the memory."""
_FEATURES, _DIMENSIONS, _VOCABULARY = 2**16, 64, 20_000
_WORDS_IN_NAME = 3
_WORD = r"(?u)\b[^\W\d_]{3,}\b"


def split_by_topic(store: DocumentStore, place: str, config: ClusterConfig, *, what: str) -> dict[str, str]:
    """Move the documents of a place into one place a topic, and return these by the topics' names.

    The same text gives the same topics: sums are made on one thread. Raises `CorpusError` for fewer documents than
    topics, and for text without words.
    """
    sample = [text[:_CHARACTERS] for text in islice(store.documents(place), config.sample_documents)]
    if len(sample) < config.k:
        raise CorpusError(f"{what}: {len(sample)} documents cannot be split into {config.k} clusters; lower cluster.k")
    with threadpool_limits(limits=1):  # sums of several threads are in an order of their own
        model = _model(config, len(sample))
        try:
            words = _Words.of(sample)
            labels = model.fit_predict(sample)
        except ValueError as error:
            raise CorpusError(f"{what}: cannot be split by topic: {error}; give it other text") from None
        names = words.names(labels, config.k)
        places = [f"{place}, topic {number}" for number in range(config.k)]

        def choose(page: Page) -> list[str]:
            found = model.predict([text[:_CHARACTERS] for text in page.texts()])
            return [places[number] for number in found.tolist()]

        store.reassign(place, choose)
    return {name: goal for name, goal in zip(names, places, strict=True) if len(store.documents(goal))}


def _model(config: ClusterConfig, documents: int) -> Pipeline:
    return make_pipeline(
        HashingVectorizer(
            n_features=_FEATURES, alternate_sign=False, norm=None, stop_words="english", token_pattern=_WORD
        ),
        TfidfTransformer(sublinear_tf=True),
        TruncatedSVD(min(_DIMENSIONS, documents - 1), random_state=config.seed),
        Normalizer(copy=False),
        MiniBatchKMeans(config.k, random_state=config.seed, n_init=5),
    )


@dataclass(frozen=True)
class _Words:
    """Which of N documents has which of W words: a sparse 0/1 matrix (N, W), and the words."""

    counts: csr_matrix
    words: Sequence[str]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        counter = CountVectorizer(binary=True, stop_words="english", token_pattern=_WORD, max_features=_VOCABULARY)
        return cls(counter.fit_transform(texts), counter.get_feature_names_out())

    def names(self, labels: npt.NDArray[np.int32], k: int) -> list[str]:
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
