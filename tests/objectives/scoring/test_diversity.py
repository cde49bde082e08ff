"""Self-BLEU: its two ends, and that sampling disturbs nothing."""

import sys

import pytest
import torch

from objectives.merging.merge import StackedPool
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.tokenizer import load_tokenizer

pytest.importorskip("sacrebleu", reason="needs the extra diversity")

from objectives.scoring.diversity import Diversity, distinct_2, self_bleu, self_bleu_of

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
