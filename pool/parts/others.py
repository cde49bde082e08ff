"""A checkpoint that others made, loaded as a causal language model that trains deterministically, with its tokenizer.

Nothing may be missing, left over, or of another shape: it would not be the model that was trained.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from pool.checkpoints.checkpoint import check_finite
from pool.checkpoints.manifest import Origin
from pool.checkpoints.others_files import ForeignFiles
from pool.checkpoints.others_weights import at_rest, check_vocabulary, load_weights, rows_of
from pool.errors import PoolError
from pool.tokens.held_out import end_of_text
from pool.tokens.tokenizer import load_tokenizer, tokenizer_digest

_PROBE_TOKENS = 8
_PROBE_TOLERANCE = 1e-5
"""Of the largest logit: causal models measured exactly 0, a small untrained BERT 6e-4."""


@dataclass(frozen=True)
class Foreign:
    """A whole model in float32, its tokenizer, and where both come from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    origin: Origin


def load_foreign(files: ForeignFiles, what: str) -> Foreign:
    """Load checked files. Raises `PoolError` naming what does not fit; `what` is what messages call the checkpoint."""
    model = _load_model(files.folder, what)
    check_finite(model, f"{what}: {files.folder}", "give a checkpoint from before its training went astray")
    _check_windows(model, what)
    _probe(model, what)
    tokenizer = _load_tokenizer(files.tokenizer, model, what)
    origin = Origin(
        weights_digest=files.weights_digest,
        config_digest=files.config_digest,
        tokenizer_digest=tokenizer_digest(tokenizer),
    )
    return Foreign(model, tokenizer, origin)


def _load_model(folder: Path, what: str) -> PreTrainedModel:
    loaded = load_weights(AutoModelForCausalLM, folder, what, "a language model")
    loaded.check_complete(f"{what}: {folder}")
    model = loaded.model
    model.generation_config = GenerationConfig.from_model_config(model.config)  # others' may be refused when saved
    return model


def _check_windows(model: PreTrainedModel, what: str) -> None:
    for name in ("max_position_embeddings", "hidden_size"):
        if not isinstance(getattr(model.config, name, None), int):
            raise PoolError(
                f"{what}: its configuration ({type(model).__name__}) has no {name}, which windows are planned by; give "
                "a decoder of text alone, with positions"
            )


def _probe(model: PreTrainedModel, what: str) -> None:
    """Check on a few tokens that no position sees the next one, and that training would drop nothing out."""
    length = min(_PROBE_TOKENS, int(model.config.max_position_embeddings))
    tokens = torch.arange(length) % rows_of(model, what)
    other = torch.cat([tokens[:-1], tokens[:1]])
    both = torch.stack([tokens, other])
    with torch.no_grad():
        first, second = model(input_ids=both, use_cache=False).logits
        trained = model.train()(input_ids=both, use_cache=False).logits[0]  # the same batch: rounded alike
    at_rest(model)
    if not torch.allclose(first[:-1], second[:-1], rtol=0, atol=_PROBE_TOLERANCE * float(first.abs().max())):
        raise PoolError(
            f"{what}: {type(model).__name__} sees the tokens it is to predict; give a causal language model"
        )
    if not torch.allclose(first, trained, rtol=0, atol=_PROBE_TOLERANCE * float(first.abs().max())):
        raise PoolError(f"{what}: {type(model).__name__} computes by chance while it trains; give another model")


def _load_tokenizer(folder: Path, model: PreTrainedModel, what: str) -> PreTrainedTokenizerFast:
    tokenizer = load_tokenizer(folder)
    check_vocabulary(model, tokenizer.get_vocab().values(), what)
    for name in ("bos_token", "eos_token"):  # older tokenizers leave it to the model's configuration
        number = getattr(model.config, f"{name}_id", None)
        if getattr(tokenizer, name) is None and isinstance(number, int):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(number))
    try:
        end_of_text(tokenizer)
    except PoolError as error:
        raise PoolError(f"{what}: {folder}: {error}") from None
    return tokenizer
