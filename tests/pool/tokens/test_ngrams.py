"""N-grams of tokens: every token once, pairs in order, and windows that cover the stream."""

import numpy as np

from pool.tokens.held_out import IGNORED, HeldOutWindows
from pool.tokens.ngrams import BUCKETS, WINDOW, places_of, size_of, text_of, windows_of


def test_pairs_are_in_order_and_within_the_table() -> None:
    tokens = np.array([7, 8, 7, 8, 9], dtype=np.int32)
    pairs = places_of("bigrams", tokens)
    assert pairs.shape == (4,) and pairs[0] == pairs[2] != pairs[1]
    large = np.full((3, 6), 2**31 - 1, dtype=np.int32)
    assert places_of("bigrams", large).shape == (3, 5) and 0 <= places_of("bigrams", large).max() < BUCKETS
    np.testing.assert_array_equal(places_of("unigrams", tokens), tokens)
    assert (size_of("unigrams", 10), size_of("bigrams", 10)) == (10, BUCKETS)


def test_windows_cover_the_stream_and_a_short_one_is_a_window() -> None:
    stream = np.arange(2 * WINDOW + 5, dtype=np.int32)
    assert windows_of(stream).tolist() == [list(range(WINDOW)), list(range(WINDOW, 2 * WINDOW))]
    assert windows_of(stream[:5]).tolist() == [[0, 1, 2, 3, 4]]


def test_padding_and_context_are_not_counted_again() -> None:
    targets = np.array([[1, 2, 3], [IGNORED, 4, IGNORED]], dtype=np.int32)
    windows = HeldOutWindows(np.zeros_like(targets), targets, np.array([0, 0], dtype=np.int32), np.array([3, 1]), 4)
    assert text_of(windows).tolist() == [1, 2, 3, 4]
