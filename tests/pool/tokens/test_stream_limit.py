"""Promises of a stream's limit: every document as it is but for those that are cut, at whole characters, in one go."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool.config.pool_file import PoolFile
from pool.tokens.held_out import whole_characters
from pool.tokens.stream import StreamLimits, training_stream
from pool.tokens.tokenizer import load_tokenizer, plain

texts = st.lists(st.text(alphabet="ab é漢🙂\n", min_size=1, max_size=12), min_size=1, max_size=40)


class Counted:
    """Documents, and how many of them were read in all."""

    def __init__(self, documents: list[str]) -> None:
        self.documents, self.read = documents, 0

    def __iter__(self) -> Iterator[str]:
        for text in self.documents:
            self.read += 1
            yield text


@pytest.fixture(scope="module")
def tokenizer(tiny_config: PoolFile):
    return load_tokenizer(tiny_config.folder / "tokenizer")


def _packed_plainly(documents: list[str], tokenizer, limit: int) -> list[int]:
    """What the stream has to be: each document in turn as far as there is room for its whole characters."""
    stream: list[int] = []
    for text in documents:
        encoding = plain(tokenizer).core.encode(text, add_special_tokens=False)
        tokens = whole_characters(encoding, limit - len(stream) - 1) if limit - len(stream) > 1 else 0
        if tokens:
            stream += [tokenizer.bos_token_id, *encoding.ids[:tokens]]
    return stream


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts, st.integers(2, 200))
def test_each_document_is_there_as_far_as_its_whole_characters_fit(
    tokenizer, tmp_path_factory: pytest.TempPathFactory, documents: list[str], limit: int
) -> None:
    path, counted = tmp_path_factory.getbasetemp() / "cut.npy", Counted(documents)
    expected = _packed_plainly(documents, tokenizer, limit)
    if not expected:
        return
    stream = training_stream("p", counted, tokenizer, StreamLimits(limit, 1, 10_000), path)
    assert stream.tokens.tolist() == expected
    assert stream.bytes == len(tokenizer.decode([one for one in expected if one != tokenizer.bos_token_id]).encode())
    assert counted.read <= 2 * len(documents)


@pytest.mark.parametrize("limit", [1004, 1005, 1006])
def test_a_limit_in_text_of_long_characters_is_found_without_reading_all_that_follows(
    tokenizer, tmp_path: Path, limit: int
) -> None:
    documents = Counted([f"{chr(0x4E00 + number)}漢字" * 3 for number in range(4000)])
    stream = training_stream("p", documents, tokenizer, StreamLimits(limit, 32, 200_000), tmp_path / "p.npy")
    assert limit - 4 < len(stream.tokens) <= limit
    assert documents.read < 1500, "of 4,000; what is left fits none of them"
    assert np.array_equal(stream.tokens, _packed_plainly(documents.documents, tokenizer, limit))
