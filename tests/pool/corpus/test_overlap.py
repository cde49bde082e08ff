"""Promises of the overlap check: shared passages are found, nothing else is, and memory follows what is scored."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pool.config.pool_file import HeldOutSize, ScoredText
from pool.corpus.corpus import Corpus, make_corpus
from pool.corpus.document_store import DocumentStore
from pool.corpus.overlap import WORDS, find_overlap, ngram_hashes, without_overlap, words_of
from pool.errors import CorpusError

PASSAGE = "It was the best of times, it was the worst of times; it was the age of wisdom"
ALL = ScoredText(10**6, 10**6)


def _story(number: int) -> str:
    return " ".join(f"word{number}x{place}" for place in range(40))


def _corpus(partitions: dict[str, list[str]], held_out: list[str]) -> Corpus:
    return make_corpus(partitions, {"h": held_out}, kept_out=HeldOutSize(), store=DocumentStore())


def test_a_passage_is_found_whatever_its_case_and_punctuation_and_stands_around_it() -> None:
    quoted = f"{_story(1)} {PASSAGE.upper().replace(',', ' --')} {_story(2)}"
    corpus = _corpus({"a": [_story(3), quoted], "b": [_story(4)]}, [f"{_story(5)}. {PASSAGE}!", _story(6)])
    found = find_overlap(corpus, ALL)
    assert found.shared == {"a": {"h": 1}, "b": {"h": 0}}
    assert (found.checked, found.training, found.documents) == ({"h": 2}, {"a": 1, "b": 0}, {"a": 2, "b": 1})
    assert found.as_json()["share"] == {"a": {"h": 0.5}, "b": {"h": 0.0}}


def test_one_word_less_than_a_run_is_no_overlap_and_short_documents_are_counted() -> None:
    words = PASSAGE.split()
    corpus = _corpus({"a": [" ".join([*words[: WORDS - 1], _story(1)])]}, [" ".join([*words, "x"]), "short"])
    found = find_overlap(corpus, ALL)
    assert found.shared == {"a": {"h": 0}}
    assert found.too_short == {"h": 1}


def test_text_that_is_never_scored_is_not_compared() -> None:
    corpus = _corpus({"a": [PASSAGE]}, [f"{_story(1)} {PASSAGE}", f"{_story(2)} {PASSAGE}!"])
    assert find_overlap(corpus, ALL).shared["a"]["h"] == 2
    assert find_overlap(corpus, ScoredText(10**6, 40)).shared["a"]["h"] == 0
    assert find_overlap(corpus, ScoredText(10**6, 40 + WORDS)).shared["a"]["h"] == 2


def test_dropping_the_overlap_leaves_none_and_takes_nothing_else() -> None:
    quoting = [f"{_story(number)} {PASSAGE}" for number in range(3)]
    others = [_story(number) for number in range(10, 15)]
    corpus = without_overlap(_corpus({"a": [*quoting, *others]}, [PASSAGE, f"{PASSAGE} it was"]), ALL)
    assert sorted(corpus.partitions["a"]) == sorted(others)
    assert find_overlap(corpus, ALL).shared == {"a": {"h": 0}}
    assert len(corpus.held_out["h"]["search"]) == len(corpus.held_out["h"]["test"]) == 1


def test_a_partition_of_which_nothing_would_be_left_is_refused_by_name() -> None:
    corpus = _corpus({"a": [_story(1)], "b": [f"{PASSAGE} x"]}, [PASSAGE, _story(2)])
    with pytest.raises(CorpusError, match="partition 'b': all of its documents share a run of 13 words"):
        without_overlap(corpus, ALL)


def test_every_run_of_a_text_has_a_hash_and_the_order_of_words_matters() -> None:
    words = words_of(_story(1))
    hashes = ngram_hashes(words)
    assert len(np.unique(hashes)) == len(words) - WORDS + 1
    assert hashes[5] == ngram_hashes(words[5 : 5 + WORDS])[0]
    assert ngram_hashes(words[:WORDS])[0] != ngram_hashes(words[:WORDS][::-1])[0]
    assert len(ngram_hashes(words[: WORDS - 1])) == 0


def test_hashes_are_the_same_in_every_process() -> None:
    script = f"from pool.corpus.overlap import *; print(ngram_hashes(words_of({PASSAGE!r})).tolist())"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=_ROOT)
    assert other.stdout.strip() == str(ngram_hashes(words_of(PASSAGE)).tolist())


_ROOT = Path(__file__).parents[3]
