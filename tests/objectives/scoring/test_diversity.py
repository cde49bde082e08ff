"""Self-BLEU: its two ends, and that sampling disturbs nothing."""

import sys

import numpy as np
import pytest
import torch
from embedding_models import write_bert

from objectives.merging.merge import StackedPool
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.tokenizer import load_tokenizer

pytest.importorskip("sacrebleu", reason="needs the extra diversity")

from objectives.scoring.diversity import Diversity, bert_scores, coherence, distinct_2, self_bleu, self_bleu_of
from pool.corpus.embeddings import Embedder, EmbeddingModel, load_encoder

PROMPTS = ("The value of", "", [5, 6, 7, 8])
SENTENCES = ("the cat sat on the mat", "several dogs ran across a field", "every bird flew over its house")


@pytest.fixture
def write(tiny_pool: Pool, tiny_stack: StackedPool):
    tokenizer = load_tokenizer(tiny_pool.folder / "tokenizer")
    tiny_stack.merge(Mixture.uniform(tiny_stack.names).array)

    def diversity(prompts=PROMPTS, *, samples: int = 6, new_tokens: int = 12, seed: int = 0) -> Diversity:
        return self_bleu_of(tiny_stack.model, tokenizer, prompts, samples=samples, new_tokens=new_tokens, seed=seed)

    return diversity


def test_identical_texts_have_self_bleu_100() -> None:
    assert self_bleu(SENTENCES[:1] * 3) == pytest.approx(100) and self_bleu(SENTENCES[:1] * 3) <= 100
    assert self_bleu(["yes"] * 2) == pytest.approx(100), "texts shorter than four words too"


def test_texts_without_a_word_in_common_have_self_bleu_0() -> None:
    assert self_bleu(SENTENCES) == 0


def test_the_more_alike_the_higher() -> None:
    near = [sentence + " and then it rained all day" for sentence in SENTENCES]
    assert 0 < self_bleu(near) < self_bleu([*near, near[0]]) < 100


def test_distinct_pairs_are_a_share_of_all_pairs() -> None:
    assert distinct_2([[1, 2, 3], [4, 5]]) == 1
    assert distinct_2([[1, 2, 1, 2], [1, 2]]) == 0.5
    with pytest.raises(ValueError, match="2 tokens or more"):
        distinct_2([[1], []])


def test_a_seed_decides_the_texts_and_the_global_state_stays(write) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = write()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(8)
    assert write() == first
    assert write(seed=1) != first
    assert 0 <= first.self_bleu <= 100 and 0 < first.distinct_2 <= 1
    assert (first.samples, first.tokens) == (6, 6 * 12), "every text has all its tokens"


def test_the_resident_model_stays_as_it_is(write, tiny_stack: StackedPool) -> None:
    flat = tiny_stack.flat.clone()
    places = [parameter.data_ptr() for parameter in tiny_stack.model.parameters()]
    write()
    assert torch.equal(flat, tiny_stack.flat)
    assert places == [parameter.data_ptr() for parameter in tiny_stack.model.parameters()]
    assert not tiny_stack.model.training


def test_more_samples_than_fit_one_batch(write) -> None:
    assert write(samples=35, new_tokens=3).tokens == 105


def test_what_does_not_fit_the_context_is_refused(write) -> None:
    with pytest.raises(ValueError, match="4 tokens and 29 new ones do not fit .* context of 32"):
        write([[5, 6, 7, 8]], new_tokens=29)
    write([[5, 6, 7, 8]], new_tokens=28)


@pytest.mark.parametrize("few", [{"samples": 1}, {"new_tokens": 1}, {"prompts": []}])
def test_too_few_to_compare_is_refused(few: dict, write) -> None:
    with pytest.raises(ValueError, match="2 samples of 2 new tokens or more"):
        write(**few)
    with pytest.raises(ValueError, match="got 1, expected 2"):
        self_bleu(["alone"])


def test_a_missing_sacrebleu_is_named_with_the_extra(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match=r"pip install 'mixscout\[diversity\]'"):
        write()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingModel:
    (folder := tmp_path_factory.mktemp("encoder") / "bert").mkdir()
    write_bert(folder, SENTENCES * 9)
    return load_encoder("--encoder", folder)


def test_coherence_is_the_cosine_with_the_own_prompt(encoder: EmbeddingModel) -> None:
    embedder = Embedder(encoder)
    found = coherence(embedder, SENTENCES, [SENTENCES[0], SENTENCES[2], ""])
    vectors = embedder.of(SENTENCES)
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found[1] == pytest.approx(float(vectors[1] @ vectors[2]), abs=1e-6) and found[1] < 0.999
    assert np.isfinite(found).all(), "an empty text has a cosine too"


def test_bertscore_pairs_each_text_with_its_own_reference(encoder: EmbeddingModel) -> None:
    pytest.importorskip("torchmetrics", reason="needs the extra bertscore")
    texts = [SENTENCES[1], "cat", SENTENCES[0]]
    found = bert_scores(encoder, texts, [SENTENCES[1], SENTENCES[2], SENTENCES[0]])
    assert found[[0, 2]] == pytest.approx([1, 1], abs=1e-5) and found[1] < 0.999
    assert found.tolist() == pytest.approx(
        bert_scores(encoder, texts[::-1], [SENTENCES[0], SENTENCES[2], SENTENCES[1]])[::-1]
    )


def test_a_missing_torchmetrics_is_named_with_the_extra(
    encoder: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.text.bert", None)
    with pytest.raises(ConfigError, match=r"pip install 'mixscout\[bertscore\]'"):
        bert_scores(encoder, [], [])
