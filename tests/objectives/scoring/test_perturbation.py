"""Promises of perturbation: the text scored comes back exactly, no document vanishes, and noise has the rate asked."""

from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from objectives.scoring.perturbation import PERTURBATIONS, perturbed, raw_documents, rewritten_windows
from pool.config.pool_file import PoolFile, ScoredText
from pool.parts.store import Pool
from pool.tokens.held_out import held_out_windows
from pool.tokens.tokenizer import load_tokenizer

CONTEXT = 32
ALL = ScoredText(10**6, 10**6)
texts = st.text(min_size=1, max_size=80)
documents = st.lists(texts, min_size=1, max_size=6)
rates = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)
with_tokenizer = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def tokenizer(tiny_config: PoolFile):
    return load_tokenizer(tiny_config.folder / "tokenizer")


def _noisy(text: str, noise: float, seed: int) -> str:
    return perturbed(text, "character-noise", noise=noise, rng=np.random.default_rng(seed))


@with_tokenizer
@given(documents)
def test_the_text_of_every_document_comes_back_exactly(tokenizer, texts: list[str]) -> None:
    windows = held_out_windows("d", texts, tokenizer, ALL, CONTEXT)
    assert raw_documents(windows, tokenizer) == texts


def test_text_that_holds_the_end_of_text_token_or_untidy_spaces_comes_back_exactly(tokenizer) -> None:
    texts = ["before <|endoftext|> after", " do n't , tidy . this !  up ", "\r\n\t\n", "naïve 漢字 🙂" * 40]
    assert raw_documents(held_out_windows("d", texts, tokenizer, ALL, CONTEXT), tokenizer) == texts


def test_documents_that_a_limit_cut_come_back_as_far_as_they_are_scored(tokenizer) -> None:
    texts = ["漢字 and words, " * 30, "🙂" * 50, "x" * 10]
    config = ScoredText(10**6, 41)
    for cut, whole in zip(
        raw_documents(held_out_windows("d", texts, tokenizer, config, CONTEXT), tokenizer), texts, strict=True
    ):
        assert cut and whole.startswith(cut)


def test_text_rewritten_as_itself_has_the_same_documents_bytes_and_words(tiny_pool: Pool, tokenizer) -> None:
    for name, windows in tiny_pool.corpus.held_out["test"].items():
        again = rewritten_windows(name, windows, tokenizer, str)
        assert (again.bytes, again.words, again.documents) == (windows.bytes, windows.words, windows.documents)
        assert raw_documents(again, tokenizer) == raw_documents(windows, tokenizer)


@with_tokenizer
@given(documents, st.sampled_from(list(PERTURBATIONS)), rates, seeds)
def test_no_document_vanishes_and_nothing_of_it_is_cut(tokenizer, texts, kind, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    new = {text: perturbed(text, kind, noise=noise, rng=rng) for text in texts}
    windows = held_out_windows("d", texts, tokenizer, ALL, CONTEXT)
    rewritten = rewritten_windows("d", windows, tokenizer, new.__getitem__)
    assert raw_documents(rewritten, tokenizer) == [new[text] for text in texts]
    assert rewritten.bytes == sum(len(new[text].encode()) for text in texts)
    assert np.unique(rewritten.document).tolist() == list(range(len(texts)))
    assert rewritten.inputs.shape[1] == CONTEXT


def test_a_rewriting_that_empties_a_document_is_refused(tokenizer) -> None:
    windows = held_out_windows("d", ["one", "two"], tokenizer, ALL, CONTEXT)
    with pytest.raises(ValueError, match=r"document 1 of held-out domain 'd' became empty; keep a character"):
        rewritten_windows("d", windows, tokenizer, lambda text: text.replace("two", ""))


@given(texts, seeds)
def test_no_noise_leaves_the_text_alone(text: str, seed: int) -> None:
    assert _noisy(text, 0, seed) == text


@given(texts, rates, seeds)
def test_the_same_seed_gives_the_same_text(text: str, noise: float, seed: int) -> None:
    assert _noisy(text, noise, seed) == _noisy(text, noise, seed)


def test_another_seed_gives_another_text() -> None:
    assert _noisy("some text " * 50, 0.2, 0) != _noisy("some text " * 50, 0.2, 1)


@given(texts, rates, seeds)
def test_noise_adds_no_new_character_and_at_most_doubles_the_length(text: str, noise: float, seed: int) -> None:
    noisy = _noisy(text, noise, seed)
    assert 1 <= len(noisy) <= 2 * len(text)
    assert set(noisy) <= set(text)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_the_share_of_edited_characters_is_near_the_rate(noise: float) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 10_000)))
    matcher = SequenceMatcher(None, text, _noisy(text, noise, 0), autojunk=False)
    edits = sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal")
    # One edit in four is a swap, which an alignment counts as a deletion and an insertion.
    assert 1.0 < edits / (noise * len(text)) < 1.4


def test_all_four_edits_happen() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 2_000)))
    noisy = _noisy(text, 0.1, 0)
    pairs = list(pairwise(noisy))
    assert any(first == second for first, second in pairs), "doubled"
    assert any(ord(first) == ord(second) + 1 for first, second in pairs), "swapped"
    assert set(text) - set(noisy), "deleted"
    assert any(abs(ord(first) - ord(second)) > 5 for first, second in pairs), "replaced"


def test_a_single_character_survives_any_noise() -> None:
    assert {_noisy("x", 1, seed) for seed in range(20)} == {"x", "xx"}


@given(texts)
def test_case_is_what_python_makes_of_it(text: str) -> None:
    rng = np.random.default_rng(0)
    assert perturbed(text, "lower-case", noise=1, rng=rng) == text.lower()
    assert perturbed(text, "upper-case", noise=1, rng=rng) == text.upper()


@pytest.mark.parametrize("noise", [-0.1, 1.1, float("nan")])
def test_a_noise_that_is_no_probability_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match=r"the noise must be a probability, from 0 to 1: got"):
        _noisy("text", noise, 0)
