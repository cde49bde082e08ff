"""Weights made elsewhere become float32 models. Stored weights are true; a config.json beside them may be wrong.

Faults ignored by transformers are refused by name: missing, spare and misshapen tensors.
"""

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from pool.errors import PoolError, first_line
from pool.progress import silent

_MISSING, _SPARE, _MISSHAPEN = "missing_keys", "unexpected_keys", "mismatched_keys"
_FAULTS = {_MISSING: "lacks", _SPARE: "has to spare", _MISSHAPEN: "has in another shape"}
_TEXT_DECODER = {
    r"^language_model\.model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
    r"^model\.language_model\.": "model.",
}
"""Names of a text decoder's tensors within a model of text and images, and by themselves."""
_OF_TEXT = ("model.layers.", "lm_head.", "language_model.")
_POSITIONS = "max_position_embeddings"
_TAKEN = "the weights are taken as they are, and exported with a true config.json"
_IF_TIED = ', or, if its embedding is its head, set "tie_word_embeddings": true in its config.json'


Shapes = Mapping[str, tuple[torch.Size, torch.Size]]
"""Shapes of a misshapen tensor: as stored, and as config.json has it."""


@dataclass(frozen=True)
class LoadedWeights:
    """A module in evaluation mode without dropout, and the names of unfit tensors by fault.

    shapes: of misshapen tensors
    notes: contradictions between config.json and the weights, and other choices
    """

    model: PreTrainedModel
    faults: Mapping[str, tuple[str, ...]]
    shapes: Shapes = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def check_complete(self, where: str, *, may_spare: bool = False, may_lack: tuple[str, ...] = ()) -> None:
        """Raise `PoolError` for an unfit tensor; `where` names the checkpoint in messages.

        For a part of a checkpoint, allow spare tensors, and missing tensors with a prefix of `may_lack`.
        """
        for kind, verb in _FAULTS.items():
            names = [name for name in self.faults[kind] if not (may_lack and name.startswith(may_lack))]
            if names and not (may_spare and kind == _SPARE):
                more = f" and {len(names) - 1} more" if names[1:] else ""
                tied = _IF_TIED if kind == _MISSING and set(names) == _names_of(self.model, head=True) else ""
                raise PoolError(
                    f"{where} {verb} {names[0]}{more}; what is loaded would not be the model that was trained: save it "
                    f"anew with save_pretrained() of its own class{tied}"
                )


def load_weights(kind: type[AutoModel | AutoModelForCausalLM], folder: Path, what: str, noun: str) -> LoadedWeights:
    """Load a checkpoint as a kind of model, called `noun` in messages; the caller judges unfit tensors.

    Raises `PoolError` for an unloadable checkpoint.
    """
    with _loading(f"{what}: {folder} is not {noun} that can be loaded"):
        return _loaded(kind, folder, _configuration(folder))


def load_language_model(folder: Path, what: str) -> LoadedWeights:
    """Load a whole language model, or the text decoder of a model of more than text.

    The weights decide on rows of the vocabulary, on positions, and on tied embeddings; config.json does not. Raises
    `PoolError` for an unloadable checkpoint, and for unfit tensors.
    """
    notes = list[str]()
    message = f"{what}: {folder} is not a language model that can be loaded"
    with _loading(message):
        whole = _configuration(folder)
    config, names = whole.get_text_config(decoder=True), None
    if config is not whole:
        message = (
            f"{what}: {folder} is a model of more than text ({type(whole).__name__}), and transformers does not load "
            "its text decoder by itself; give a checkpoint of text alone"
        )
        names = _TEXT_DECODER
    with _loading(message):
        loaded = _loaded(AutoModelForCausalLM, folder, config, names)
        if sizes := _stored_sizes(loaded):
            for key, value in sizes.items():
                notes.append(f"its config.json says {key} = {getattr(config, key)}, and its weights {value}: {_TAKEN}")
                setattr(config, key, value)
            loaded = _loaded(AutoModelForCausalLM, folder, config, names)
    if names is not None:
        own = tuple(name for name in loaded.faults[_SPARE] if name.startswith(_OF_TEXT))
        others = len(loaded.faults[_SPARE]) - len(own)
        notes.append(f"its text decoder ({type(loaded.model).__name__}) is taken, and {others} other tensors are left")
        vars(loaded.model).pop("_weight_conversions", None)  # else transformers saves it under the names of the whole
        loaded = replace(loaded, faults={**loaded.faults, _SPARE: own})
    loaded.check_complete(f"{what}: {folder}")
    return replace(loaded, notes=(*notes, *tell_tying(loaded.model)))


def load_gguf(path: Path, what: str) -> LoadedWeights:
    """Load a language model from a GGUF file; quantised values become float32.

    Raises `PoolError` for an unloadable file, and for a file with values that transformers does not read.
    """
    if importlib.util.find_spec("gguf") is None:
        raise PoolError(
            f"{what}: {path.name} needs the package gguf: run `pip install 'mixscout[gguf]'`, or give the model as "
            "safetensors"
        )
    with _loading(f"{what}: {path} is not a language model that transformers reads"):
        stored = import_module("gguf").GGUFReader(path).tensors  # an extra
        loaded = _loaded(AutoModelForCausalLM, path.parent, _configuration(path.parent, path.name), gguf=path.name)
    loaded.check_complete(f"{what}: {path}")
    config = loaded.model.config
    vars(config).pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    plain.load_state_dict(loaded.model.state_dict())
    values, read = sum(int(tensor.n_elements) for tensor in stored), sum(one.numel() for one in plain.parameters())
    if values != read:
        odd = next((f" ({tensor.name}, say)" for tensor in stored if tensor.name.startswith("rope_")), "")
        raise PoolError(
            f"{what}: {path} holds {values:,} values, and transformers reads {read:,} of them{odd}; what is loaded "
            "would not be the model that was trained: give it as safetensors"
        )
    kinds = ", ".join(sorted({tensor.tensor_type.name for tensor in stored}))
    note = f"its weights, stored as {kinds} in {path.name}, are taken as float32, once"
    return LoadedWeights(at_rest(plain), loaded.faults, notes=(note,))


def tell_tying(model: PreTrainedModel) -> tuple[str, ...]:
    """Set `tie_word_embeddings` by the loaded weights; return a note for a configuration in the wrong.

    Readers of a wrong configuration drop the head.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[no-untyped-call]
    if head is None or not hasattr(embedding, "weight"):
        return ()
    tied, said = head.weight is embedding.weight, bool(model.config.tie_word_embeddings)
    if tied == said:
        return ()
    model.config.tie_word_embeddings = tied
    truth = "its embedding is its head" if tied else "it has a head of its own"
    return (f"its config.json says tie_word_embeddings = {str(said).lower()}, and {truth}: {_TAKEN}",)


@contextmanager
def _loading(message: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # many types for one fact: not loadable
        raise PoolError(f"{message}: {first_line(error)}") from None


def _configuration(folder: Path, gguf: str | None = None) -> PretrainedConfig:
    config: PretrainedConfig = AutoConfig.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True, gguf_file=gguf
    )
    return config


def _loaded(
    kind: type[AutoModel | AutoModelForCausalLM],
    folder: Path,
    config: PretrainedConfig,
    names: Mapping[str, str] | None = None,
    gguf: str | None = None,
) -> LoadedWeights:
    drop_nothing(config)
    with silent("transformers"):  # it prints a table of faults, which are judged by the caller
        loaded: object = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused by name
            output_loading_info=True,
            key_mapping=names,
            gguf_file=gguf,
        )
    model, found = cast("tuple[PreTrainedModel, Mapping[str, object]]", loaded)
    misshapen = cast("set[tuple[str, torch.Size, torch.Size]]", found[_MISSHAPEN])
    shapes = {name: (stored, expected) for name, stored, expected in misshapen}
    return LoadedWeights(at_rest(model), {fault: _names(found[fault]) for fault in _FAULTS}, shapes)


def _stored_sizes(loaded: LoadedWeights) -> dict[str, int]:
    """Return true sizes for a configuration, if they explain all misshapen tensors; else nothing."""
    model, sizes = loaded.model, dict[str, int]()
    of_vocabulary = _names_of(model, head=False) | _names_of(model, head=True)
    positions = most_positions(model.config)
    for name, (stored, expected) in loaded.shapes.items():
        beyond = expected[0] - positions if positions else -1
        if stored[1:] != expected[1:] or stored[0] == 0:
            return {}
        key, value = ("vocab_size", stored[0]) if name in of_vocabulary else (_POSITIONS, stored[0] - beyond)
        if (key == _POSITIONS and beyond not in (0, 2)) or sizes.setdefault(key, value) != value:
            return {}
    return sizes


def most_positions(config: PretrainedConfig) -> int | None:
    """Return the longest window of a model; None for a model without positions."""
    for key in (_POSITIONS, "max_seq_len"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _names_of(model: PreTrainedModel, *, head: bool) -> set[str]:
    """Name the parameters of a model's head, or else of its embedding."""
    module = model.get_output_embeddings() if head else model.get_input_embeddings()  # type: ignore[no-untyped-call]
    own = set(map(id, module.parameters())) if module is not None else set()
    return {name for name, one in model.named_parameters(remove_duplicate=False) if id(one) in own}


def at_rest(model: PreTrainedModel) -> PreTrainedModel:
    return cast(PreTrainedModel, model.eval())  # type: ignore[no-untyped-call]


def rows_of(model: PreTrainedModel, what: str) -> int:
    """Return the rows of a model's embedding. Raises `PoolError` for a model without one."""
    try:
        return int(cast(torch.Tensor, model.get_input_embeddings().weight).shape[0])
    except (AttributeError, NotImplementedError):
        raise PoolError(f"{what}: {type(model).__name__} embeds no tokens; give a model of text") from None


def check_vocabulary(model: PreTrainedModel, tokens: Collection[int], what: str) -> None:
    """Raise `PoolError` for tokens beyond the rows of the model's embedding."""
    rows, last = rows_of(model, what), max(tokens, default=-1)
    if last >= rows:
        raise PoolError(
            f"{what}: its tokenizer has a token {last}, and its embedding {rows} rows; give the tokenizer that it was "
            "trained with"
        )


def drop_nothing(config: PretrainedConfig) -> None:
    """Turn off every kind of dropout: a run continued after a kill must reach the same parameters."""
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in key or "pdrop" in key or "layerdrop" in key):
            setattr(config, key, 0.0)


def _names(found: object) -> tuple[str, ...]:
    keys = cast("set[str | tuple[object, ...]]", found)
    return tuple(sorted(key if isinstance(key, str) else str(key[0]) for key in keys))
