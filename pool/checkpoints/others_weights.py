"""Weights that others made, put into a module of transformers in float32, from local safetensors alone.

What transformers would pass over in silence is told apart here: tensors missing, left over, or of another shape.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from pool.errors import PoolError, first_line
from pool.progress import silent

_SPARE = "unexpected_keys"
_FAULTS = {
    "missing_keys": "lacks",
    _SPARE: "has to spare",
    "mismatched_keys": "has in another shape",
}


@dataclass(frozen=True)
class LoadedWeights:
    """A module without dropout in evaluation mode, and the names of tensors that did not fit, by kind of fault."""

    model: PreTrainedModel
    faults: Mapping[str, tuple[str, ...]]

    def check_complete(self, where: str, *, may_spare: bool = False, may_lack: tuple[str, ...] = ()) -> None:
        """Raise `PoolError` naming a tensor that did not fit; `where` is what messages call the checkpoint.

        Where only part of a checkpoint is asked for, tensors may be left over, and those may be missing whose names
        begin with one of `may_lack`.
        """
        for kind, verb in _FAULTS.items():
            names = [name for name in self.faults[kind] if not (may_lack and name.startswith(may_lack))]
            if names and not (may_spare and kind == _SPARE):
                more = f" and {len(names) - 1} more" if names[1:] else ""
                raise PoolError(
                    f"{where} {verb} {names[0]}{more}; what is loaded would not be the model that was trained: save it "
                    "anew with save_pretrained() of its own class"
                )


def load_weights(kind: type[AutoModel | AutoModelForCausalLM], folder: Path, what: str, noun: str) -> LoadedWeights:
    """Load a checkpoint's weights as a kind of model, which messages call `noun`.

    Raises `PoolError` for what cannot be loaded; tensors that do not fit are the caller's to judge.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        _drop_nothing(config)
        with silent("transformers"):  # it prints as a table what is refused by name, or does not matter
            model, found = _loaded(kind, folder, config)
    except Exception as error:  # transformers and safetensors raise many types for one fact: not loadable
        raise PoolError(f"{what}: {folder} is not {noun} that can be loaded: {first_line(error)}") from None
    return LoadedWeights(at_rest(model), {fault: _names(found[fault]) for fault in _FAULTS})


def at_rest(model: PreTrainedModel) -> PreTrainedModel:
    """Put a model into evaluation mode."""
    return cast(PreTrainedModel, model.eval())  # type: ignore[no-untyped-call]


def rows_of(model: PreTrainedModel, what: str) -> int:
    """Return how many tokens a model's embedding knows. Raises `PoolError` where it embeds none."""
    try:
        return int(cast(torch.Tensor, model.get_input_embeddings().weight).shape[0])
    except (AttributeError, NotImplementedError):
        raise PoolError(f"{what}: {type(model).__name__} embeds no tokens; give a model of text") from None


def check_vocabulary(model: PreTrainedModel, tokens: Collection[int], what: str) -> None:
    """Raise `PoolError` for a tokenizer with tokens that the model's embedding has no row for."""
    rows, last = rows_of(model, what), max(tokens, default=-1)
    if last >= rows:
        raise PoolError(
            f"{what}: its tokenizer has a token {last}, and its embedding {rows} rows; give the tokenizer that it was "
            "trained with"
        )


def _loaded(
    kind: type[AutoModel | AutoModelForCausalLM], folder: Path, config: PretrainedConfig
) -> tuple[PreTrainedModel, Mapping[str, object]]:
    loaded: object = kind.from_pretrained(
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


def _drop_nothing(config: PretrainedConfig) -> None:
    """Turn every kind of dropout off: a killed training run has to end with the same parameters."""
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in key or "pdrop" in key or "layerdrop" in key):
            setattr(config, key, 0.0)


def _names(found: object) -> tuple[str, ...]:
    keys = cast("set[str | tuple[object, ...]]", found)
    return tuple(sorted(key if isinstance(key, str) else str(key[0]) for key in keys))
