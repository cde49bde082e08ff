"""Documents as vectors of their words: TF-IDF of hashed words, reduced to a few dimensions, of unit length."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits

WORD = r"(?u)\b[^\W\d_]{3,}\b"
"""What a word is: letters alone."""
_FEATURES, _DIMENSIONS = 2**16, 64

Vectors = npt.NDArray[np.floating]
"""N documents by D dimensions."""


class WordVectors:
    """Vectoriser by words for a sample of so many documents, at random by `seed` where it is at all."""

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
        """Learn from the sample which words tell documents apart, and return its vectors (N, D).

        The sums are made on one thread: those of several are in an order of their own.
        """
        with threadpool_limits(limits=1):
            return cast(Vectors, self._pipeline.fit_transform(texts))

    def of(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of documents (N, D)."""
        with threadpool_limits(limits=1):
            return cast(Vectors, self._pipeline.transform(texts))
