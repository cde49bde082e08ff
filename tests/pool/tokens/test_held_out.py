"""Promises of tokenisation: nothing is lost, every token is scored once, bytes are those of the raw text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool.config.pool_file import PoolFile, ScoredText
from pool.errors import CorpusError
from pool.parts.store import Pool
from pool.tokens.held_out import IGNORED, held_out_windows
from pool.tokens.stream import StreamLimits, training_stream
from pool.tokens.tokenizer import load_tokenizer

CONTEXT = 32
documents = st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6)
ALL = ScoredText(10**6, 10**6)


@pytest.fixture(scope="module")
def tokenizer(tiny_config: PoolFile):
    return load_tokenizer(tiny_config.folder / "tokenizer")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(documents)
def test_held_out_bytes_are_the_raw_utf8_bytes_and_tokens_decode_to_the_text(tokenizer, texts: list[str]) -> None:
    windows = held_out_windows("d", texts, tokenizer, ALL, CONTEXT)
    assert windows.bytes == sum(len(text.encode()) for text in texts)
    decoded = tokenizer.decode(windows.targets[windows.targets != IGNORED], clean_up_tokenization_spaces=False)
    assert decoded == "".join(texts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(documents, st.integers(1, 40), st.integers(1, 60))
def test_a_cut_document_counts_the_bytes_of_the_text_it_keeps(
    tokenizer, texts: list[str], per_document: int, in_all: int
) -> None:
    config = ScoredText(in_all, per_document)
    try:
        windows = held_out_windows("d", texts, tokenizer, config, CONTEXT)
    except CorpusError:
        return  # the first character alone is longer than the limit
    kept = tokenizer.decode(windows.targets[windows.targets != IGNORED], clean_up_tokenization_spaces=False)
    assert windows.tokens <= in_all
    assert windows.bytes == len(kept.encode())


def test_windows_are_shifted_by_one_and_start_with_the_end_of_text_token(tokenizer) -> None:
    text = "def f(x):\n    return x + 1\n" * 5
    ids = tokenizer.encode(text)
    windows = held_out_windows("d", [text], tokenizer, ALL, CONTEXT)
    real = windows.targets != IGNORED
    assert windows.inputs[real].tolist() == [tokenizer.bos_token_id, *ids[:-1]]
    assert windows.targets[real].tolist() == ids


def test_the_last_window_of_several_reaches_back_until_it_is_full(tokenizer) -> None:
    ids = tokenizer.encode("def f(x):\n    return x + 1\n" * 5)
    windows = held_out_windows("d", [tokenizer.decode(ids[: CONTEXT + 5])], tokenizer, ALL, CONTEXT)
    assert windows.inputs[1].tolist() == ids[4 : CONTEXT + 4]
    assert windows.targets[1].tolist() == [IGNORED] * (CONTEXT - 5) + ids[CONTEXT : CONTEXT + 5]


def test_windows_know_their_document_their_bytes_and_the_words_of_the_text(tokenizer) -> None:
    texts = ["two words", "Grüße " * 40, "é"]
    windows = held_out_windows("d", texts, tokenizer, ALL, CONTEXT)
    by_document = [windows.window_bytes[windows.document == number].sum() for number in range(3)]
    assert by_document == [len(text.encode()) for text in texts]
    assert windows.documents == 3
    assert windows.words == 2 + 41 + 1, "as lm-evaluation-harness counts: an empty piece after the last space"


def test_a_partition_shorter_than_one_window_is_refused_by_name(tokenizer, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"partition 'p' has \d+ training tokens, fewer than one window of 32"):
        training_stream("p", ["short"], tokenizer, StreamLimits(1000, CONTEXT, 5), tmp_path / "p.npy")


def test_a_training_stream_separates_documents_and_respects_its_limit(tokenizer, tmp_path: Path) -> None:
    texts = ["some text here " * 4] * 20
    stream = training_stream("p", texts, tokenizer, StreamLimits(50, CONTEXT, 1200), tmp_path / "p.npy")
    assert 40 < len(stream.tokens) <= 50
    assert stream.tokens[0] == tokenizer.bos_token_id
    assert (stream.tokens == tokenizer.bos_token_id).sum() == stream.documents


def test_counts_in_the_pool_record_are_those_of_its_arrays(tiny_pool: Pool) -> None:
    for name, summary in tiny_pool.manifest.corpus.partitions.items():
        assert summary.tokens == len(tiny_pool.corpus.train[name])
        assert 0 < summary.bytes < 10 * summary.tokens
    for split in ("search", "test"):
        for name, summary in getattr(tiny_pool.manifest.corpus, split).items():
            windows = tiny_pool.corpus.held_out[split][name]
            assert (summary.tokens, summary.bytes, summary.documents) == (
                windows.tokens,
                windows.bytes,
                windows.documents,
            )
            assert windows.inputs.dtype == np.int32
