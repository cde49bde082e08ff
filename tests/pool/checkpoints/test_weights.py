"""Promises of weights made elsewhere: what is stored is true, said where config.json differs, and exported truly."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MambaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
)

from pool.checkpoints.checkpoint import load_model
from pool.checkpoints.weights import load_language_model, most_positions
from pool.errors import PoolError

SIZES = {"vocab_size": 48, "hidden_size": 16, "num_hidden_layers": 1}
LLAMA = {**SIZES, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGES = {**VISION, "image_size": 16, "patch_size": 8}


def _llama(*, tied: bool) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=tied, **LLAMA))


def _gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=16, n_layer=1, n_head=2, n_positions=32))


def _gemma3() -> Gemma3ForConditionalGeneration:
    text = Gemma3TextConfig(**LLAMA, num_key_value_heads=1, head_dim=8, sliding_window=16)
    config = Gemma3Config(text_config=text, vision_config=IMAGES, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config)


def _llava() -> LlavaForConditionalGeneration:
    config = LlavaConfig(text_config=LlamaConfig(**LLAMA), vision_config=CLIPVisionConfig(**IMAGES))
    return LlavaForConditionalGeneration(config)


def _bloom() -> BloomForCausalLM:
    return BloomForCausalLM(BloomConfig(vocab_size=48, hidden_size=16, n_layer=1, n_head=2))


MADE: dict[str, tuple[Callable[[], PreTrainedModel], dict[str, object], str, bool]] = {
    "tied, says config.json": (
        lambda: _llama(tied=False),
        {"tie_word_embeddings": True},
        "says tie_word_embeddings = true, and it has a head of its own",
        False,
    ),
    "a smaller vocabulary, says config.json": (
        lambda: _llama(tied=False),
        {"vocab_size": 40},
        "says vocab_size = 40, and its weights 48",
        False,
    ),
    "a tied vocabulary": (lambda: _llama(tied=True), {"vocab_size": 56}, "says vocab_size = 56, and its weights", True),
    "more positions, says config.json": (
        _gpt2,
        {"n_positions": 64},
        "says max_position_embeddings = 64, and its weights 32",
        True,
    ),
    "another type, says config.json": (lambda: _llama(tied=True), {"dtype": "float16"}, "", True),
    "text and images": (_gemma3, {}, r"its text decoder \(Gemma3ForCausalLM\) is taken, and \d+ other tensors", True),
    "text and images, apart": (_llava, {}, r"its text decoder \(LlamaForCausalLM\) is taken", False),
    "no positions": (_bloom, {}, "", True),
    "a state": (lambda: MambaForCausalLM(MambaConfig(state_size=4, **SIZES)), {}, "", True),
    "linear biases": (
        lambda: MptForCausalLM(MptConfig(vocab_size=48, d_model=16, n_heads=2, n_layers=1, max_seq_len=24)),
        {},
        "",
        True,
    ),
}


def _change(folder: Path, entries: dict[str, object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))


@pytest.mark.parametrize("kind", MADE)
def test_what_is_stored_is_taken_and_any_reader_of_its_export_sees_the_same_logits(kind: str, tmp_path: Path) -> None:
    made, entries, note, tied = MADE[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = made().eval()
    model.save_pretrained(tmp_path / "given")
    _change(tmp_path / "given", entries)

    loaded = load_language_model(tmp_path / "given", "[seed]")
    assert len(loaded.notes) == bool(note)
    if note:
        assert re.search(note, loaded.notes[0])
    loaded.model.save_pretrained(tmp_path / "out")
    tokens = torch.arange(20)[None]
    expected = model(input_ids=tokens).logits
    torch.testing.assert_close(loaded.model(tokens).logits, expected)
    for again in (AutoModelForCausalLM.from_pretrained(tmp_path / "out"), load_model(tmp_path / "out")):
        assert torch.equal(again(tokens).logits, loaded.model(tokens).logits)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in list(file.keys())) is not tied
    assert config.get("tie_word_embeddings", True) is tied
    assert config["dtype"] == "float32"


def test_a_head_that_is_nowhere_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    _llama(tied=True).save_pretrained(tmp_path)
    _change(tmp_path, {"tie_word_embeddings": False})
    with pytest.raises(PoolError, match=r'lacks lm_head\.weight; .*, or, .*set "tie_word_embeddings": true in its con'):
        load_language_model(tmp_path, "[seed]")
    _change(tmp_path, {"tie_word_embeddings": True})
    assert load_language_model(tmp_path, "[seed]").notes == ()


def test_a_model_of_more_than_text_without_a_decoder_by_itself_is_one_line(tmp_path: Path) -> None:
    _llava().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    _change(tmp_path, {"text_config": {**config["text_config"], "model_type": "clip_text_model"}})
    with pytest.raises(PoolError, match=r"is a model of more than text \(LlavaConfig\), .*; give a checkpoint of text"):
        load_language_model(tmp_path, "[seed]")


def test_models_know_their_longest_window_or_have_none() -> None:
    assert most_positions(LlamaConfig(max_position_embeddings=64)) == 64
    assert most_positions(MptConfig(max_seq_len=24)) == 24
    assert most_positions(BloomConfig()) is None and most_positions(MambaConfig()) is None
