"""Model families that a seed can be made of: from the pool file's [model] table to transformers' own words.

Nothing is dropped out, whatever the family's default: a killed training run has to end with the same parameters.
"""

from collections.abc import Callable, Mapping

from transformers import AutoConfig, PretrainedConfig

from pool.config.recipe import Family, ModelShape

END_OF_TEXT_ID = 0
"""The tokenizer trained here gives its one special token the first number."""


def family_config(shape: ModelShape, vocabulary: int) -> PretrainedConfig:
    """Turn a shape into the configuration of its family, with `vocabulary` rows in the embedding."""
    config: PretrainedConfig = AutoConfig.for_model(
        shape.family,
        vocab_size=vocabulary,
        tie_word_embeddings=shape.tie_embeddings,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
        pad_token_id=None,
        **_SETTINGS[shape.family](shape),
    )
    return config


def _rotary(shape: ModelShape) -> dict[str, object]:
    """Families with rotary positions share Llama's names."""
    return {
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention_heads,
        "num_key_value_heads": shape.attention_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.context,
        "attention_dropout": 0.0,
    }


def _gpt2(shape: ModelShape) -> dict[str, object]:
    return {
        "n_embd": shape.hidden_size,
        "n_layer": shape.layers,
        "n_head": shape.attention_heads,
        "n_inner": shape.intermediate_size,
        "n_positions": shape.context,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"), 0.0),
    }


_SETTINGS: Mapping[Family, Callable[[ModelShape], dict[str, object]]] = {
    "llama": _rotary,
    "gpt2": _gpt2,
    "qwen2": _rotary,
    "olmo2": _rotary,
}
