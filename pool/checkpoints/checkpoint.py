"""Models of the pool: made from a shape, saved and loaded; safetensors only, no remote code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from pool.checkpoints.manifest import AGES, CONFIG, WEIGHTS, CheckpointManifest
from pool.checkpoints.weights import at_rest, tell_tying
from pool.config.recipe import Family, ModelShape
from pool.errors import PoolError, first_line
from pool.files.digests import digest_file
from pool.files.records import MANIFEST, write_record

END_OF_TEXT_ID = 0
"""The one special token of a tokenizer trained here."""


def new_model(shape: ModelShape, vocabulary: int, *, initial_seed: int) -> PreTrainedModel:
    """Build a float32 model with random parameters; the global random state stays.

    No family has dropout: a run continued after a kill must reach the same parameters.
    """
    config = configuration_of(shape, vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        return cast(PreTrainedModel, model)


def configuration_of(shape: ModelShape, vocabulary: int) -> PretrainedConfig:
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


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a local checkpoint in evaluation mode. Raises `PoolError` for missing, truncated or other files."""
    if not (folder / WEIGHTS).is_file():
        raise PoolError(f"{folder / WEIGHTS} is missing; only safetensors checkpoints are read")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # many types for one fact: not loadable
        raise PoolError(f"{folder}: not a checkpoint that can be loaded: {first_line(error)}") from None
    tell_tying(model)  # seeds taken over by earlier versions may have a wrong configuration
    return at_rest(model)


def with_padding_as_text(model: PreTrainedModel) -> PreTrainedModel:
    """Let the gradient reach the padding token's row of the embedding, which torch leaves out; losses stay.

    Many tokenizers pad with the token before every document: without its row the gradient of a loss is wrong.
    """
    cast(torch.nn.Embedding, model.get_input_embeddings()).padding_idx = None
    return model


def parameters_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the floating-point parameters by name, tied ones once (P values in all)."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def check_finite(model: PreTrainedModel, what: str, remedy: str) -> None:
    """Raise `PoolError` with the `remedy` for a tensor of `what` with NaN or infinity."""
    for name, tensor in parameters_of(model).items():
        if not bool(torch.isfinite(tensor).all()):
            raise PoolError(f"{what} has NaN or infinite values in {name}; {remedy}")


def remedy_of(folder: Path) -> str:
    """Word the remedy for a checkpoint that is not finite: a member, one of its ages, or the seed."""
    name = folder.parents[1].name if folder.parent.name == AGES else folder.name
    return f"train it again with `mixscout pool build POOL.toml --rebuild {name}`"


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, manifest: CheckpointManifest
) -> CheckpointManifest:
    """Write model, tokenizer and, last, the manifest with the digests of weights and config; return the manifest."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    digests = {"weights_digest": digest_file(folder / WEIGHTS), "config_digest": digest_file(folder / CONFIG)}
    complete = manifest.model_copy(update=digests)
    write_record(folder / MANIFEST, complete)
    return complete
