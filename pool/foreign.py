"""A checkpoint that others made, loaded as a causal language model that trains deterministically, with its tokenizer.

What transformers would pass over in silence is an error here: tensors missing, left over, or of another shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from pool.checkpoint import check_finite, load_tokenizer
from pool.errors import PoolError
from pool.foreign_files import ForeignFiles
from pool.manifest import Origin
from pool.tokenizer import tokenizer_digest
from pool.tokens import end_of_text

_PROBE_TOKENS = 8
_PROBE_TOLERANCE = 1e-5
"""Of the largest logit: causal models measured exactly 0, a small untrained BERT 6e-4."""
_FAULTS = {
    "missing_keys": "lacks",
    "unexpected_keys": "has to spare",
    "mismatched_keys": "has in another shape",
}


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
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        _drop_nothing(config)
        loaded = _loaded(folder, config)
    except Exception as error:  # transformers and safetensors raise many types for one fact: not loadable
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PoolError(f"{what}: {folder} is not a language model that can be loaded: {reason}") from None
    model, found = loaded
    _check_complete(found, f"{what}: {folder}")
    model.generation_config = GenerationConfig.from_model_config(model.config)  # others' may be refused when saved
    return _at_rest(model)


def _loaded(folder: Path, config: PretrainedConfig) -> tuple[PreTrainedModel, Mapping[str, object]]:
    loaded: object = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # they are reported, and refused by name
        output_loading_info=True,
    )
    return cast("tuple[PreTrainedModel, Mapping[str, object]]", loaded)


def _at_rest(model: PreTrainedModel) -> PreTrainedModel:
    return cast(PreTrainedModel, model.eval())  # type: ignore[no-untyped-call]


def _rows(model: PreTrainedModel) -> int:
    return int(cast(torch.Tensor, model.get_input_embeddings().weight).shape[0])


def _drop_nothing(config: PretrainedConfig) -> None:
    """Turn every kind of dropout off: a killed training run has to end with the same parameters."""
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in key or "pdrop" in key or "layerdrop" in key):
            setattr(config, key, 0.0)


def _check_complete(found: Mapping[str, object], where: str) -> None:
    for kind, verb in _FAULTS.items():
        keys = cast("set[str | tuple[object, ...]]", found[kind])
        names = sorted(key if isinstance(key, str) else str(key[0]) for key in keys)
        if names:
            more = f" and {len(names) - 1} more" if names[1:] else ""
            raise PoolError(
                f"{where} {verb} {names[0]}{more}; what is loaded would not be the model that was trained: save it "
                "anew with save_pretrained() of its own class"
            )


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
    tokens = torch.arange(length) % _rows(model)
    other = torch.cat([tokens[:-1], tokens[:1]])
    both = torch.stack([tokens, other])
    with torch.no_grad():
        first, second = model(input_ids=both, use_cache=False).logits
        trained = model.train()(input_ids=both, use_cache=False).logits[0]  # the same batch: rounded alike
    _at_rest(model)
    if not torch.allclose(first[:-1], second[:-1], rtol=0, atol=_PROBE_TOLERANCE * float(first.abs().max())):
        raise PoolError(
            f"{what}: {type(model).__name__} sees the tokens it is to predict; give a causal language model"
        )
    if not torch.allclose(first, trained, rtol=0, atol=_PROBE_TOLERANCE * float(first.abs().max())):
        raise PoolError(f"{what}: {type(model).__name__} computes by chance while it trains; give another model")


def _load_tokenizer(folder: Path, model: PreTrainedModel, what: str) -> PreTrainedTokenizerFast:
    tokenizer = load_tokenizer(folder)
    rows, last = _rows(model), max(tokenizer.get_vocab().values())
    if last >= rows:
        raise PoolError(
            f"{what}: its tokenizer has a token {last}, and its embedding {rows} rows; give the tokenizer that it was "
            "trained with"
        )
    for name in ("bos_token", "eos_token"):  # older tokenizers leave it to the model's configuration
        number = getattr(model.config, f"{name}_id", None)
        if getattr(tokenizer, name) is None and isinstance(number, int):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(number))
    try:
        end_of_text(tokenizer)
    except PoolError as error:
        raise PoolError(f"{what}: {folder}: {error}") from None
    return tokenizer
