"""Checkpoints made elsewhere: their files are checked first, then their weights are loaded in float32.

Only safetensors and JSON are read, no pickle and no code. Faults which transformers ignores are refused by name:
missing, spare and misshapen tensors.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from pool.checkpoints.checkpoint import CONFIG, WEIGHTS
from pool.errors import PoolError, first_line
from pool.files.digests import DigestOf, digest_file, digest_json
from pool.progress import silent

INDEX, TOKENIZER = "model.safetensors.index.json", "tokenizer.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_EXACT_IN_FLOAT32 = {"F32", "F16", "BF16"}
_BUFFERS = {"BOOL", "U8", "I64", "I32"}
"""Older checkpoints also hold masks and positions, which are made anew."""
_SPARE = "unexpected_keys"
_FAULTS = {"missing_keys": "lacks", _SPARE: "has to spare", "mismatched_keys": "has in another shape"}


@dataclass(frozen=True)
class ForeignFiles:
    """The files of a checkpoint.

    weights: one file, or the shards of one model.
    tokenizer: folder of tokenizer.json.
    digest_of: how to digest a file.
    """

    folder: Path
    weights: tuple[Path, ...]
    tokenizer: Path
    digest_of: DigestOf = digest_file

    @property
    def weights_digest(self) -> str:
        """Digest of the file, or of the digests of the shards. Raises `OSError`."""
        digests = [self.digest_of(path) for path in self.weights]
        return digests[0] if len(digests) == 1 else digest_json(digests)

    @property
    def config_digest(self) -> str:
        return self.digest_of(self.folder / CONFIG)


def find_foreign(folder: Path, what: str, tokenizer: Path | None = None) -> ForeignFiles:
    """Find and check the files of a checkpoint, called `what` in messages. Raises `PoolError` with the remedy."""
    if not folder.is_dir():
        raise PoolError(
            f"{what}: {folder} is no folder; give that of a checkpoint ({CONFIG}, {WEIGHTS} and {TOKENIZER})"
        )
    if (folder / "adapter_config.json").is_file():
        raise PoolError(
            f"{what}: {folder} holds an adapter, not a whole model; merge it into its model first, with peft's "
            "merge_and_unload(), and save that"
        )
    weights = _weights(folder, what)
    config = _json(folder / CONFIG, what)
    if "quantization_config" in config:
        raise PoolError(f"{what}: {folder / CONFIG} says that the model is quantised; give it in 16 or 32 bits")
    home = tokenizer or folder
    if not (home / TOKENIZER).is_file():
        raise PoolError(
            f"{what}: {home / TOKENIZER} is missing; save the tokenizer it was trained with there, with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"
        )
    settings = home / "tokenizer_config.json"
    for path, table in ((folder / CONFIG, config), (settings, _json(settings, what) if settings.exists() else {})):
        if "auto_map" in table:
            raise PoolError(
                f"{what}: {path} asks for code of its own (auto_map), and code of others is never run; give a model of "
                "an architecture that transformers has"
            )
    return ForeignFiles(folder, weights, home)


def _weights(folder: Path, what: str) -> tuple[Path, ...]:
    if (folder / WEIGHTS).is_file():
        found: tuple[Path, ...] = (folder / WEIGHTS,)
    elif (folder / INDEX).is_file():
        found = _shards(folder, what)
    else:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise PoolError(
                f"{what}: {folder} has no {WEIGHTS}, and pickles ({pickles[0]}) can run code when they are loaded; "
                "where you trust it, save it anew as safetensors with model.save_pretrained(FOLDER)"
            )
        raise PoolError(f"{what}: {folder / WEIGHTS} is missing; only safetensors checkpoints are read")
    for path in found:
        _check_types(path, what)
    return found


def _shards(folder: Path, what: str) -> tuple[Path, ...]:
    named = _json(folder / INDEX, what).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not names:
        raise PoolError(f"{what}: {folder / INDEX} names no shards; copy the checkpoint again")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise PoolError(f"{what}: {folder / INDEX} names {name!r}, which is no safetensors file beside it")
    return tuple(folder / name for name in names)


def _check_types(path: Path, what: str) -> None:
    try:
        path.open("rb").close()  # safe_open takes every failure to open for a missing file
        with safe_open(path, "pt") as file:
            stored = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise PoolError(
            f"{what}: {path} is not a whole safetensors file: {error}; copy it again, and if it names an unknown type, "
            "give the checkpoint in float32, bfloat16 or float16"
        ) from None
    for name, kind in stored.items():
        if kind not in _EXACT_IN_FLOAT32 | _BUFFERS:
            raise PoolError(
                f"{what}: {path} holds {name} as {kind}, which float32 cannot hold exactly or which is quantised; give "
                "the checkpoint in float32, bfloat16 or float16"
            )


def _json(path: Path, what: str) -> dict[str, object]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PoolError(f"{what}: {path} is missing; give a folder that save_pretrained() wrote") from None
    except (OSError, ValueError) as error:
        raise PoolError(f"{what}: {path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise PoolError(f"{what}: {path} is no JSON object")
    return table


@dataclass(frozen=True)
class LoadedWeights:
    """A module in evaluation mode without dropout, and the names of unfit tensors by fault."""

    model: PreTrainedModel
    faults: Mapping[str, tuple[str, ...]]

    def check_complete(self, where: str, *, may_spare: bool = False, may_lack: tuple[str, ...] = ()) -> None:
        """Raise `PoolError` for an unfit tensor; `where` names the checkpoint in messages.

        For a part of a checkpoint, allow spare tensors, and missing tensors with a prefix of `may_lack`.
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
    """Load a checkpoint as a kind of model, called `noun` in messages; the caller judges unfit tensors.

    Raises `PoolError` for an unloadable checkpoint.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        _drop_nothing(config)
        with silent("transformers"):  # it prints a table of faults, which are judged below
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
    except Exception as error:  # many types for one fact: not loadable
        raise PoolError(f"{what}: {folder} is not {noun} that can be loaded: {first_line(error)}") from None
    model, found = cast("tuple[PreTrainedModel, Mapping[str, object]]", loaded)
    return LoadedWeights(at_rest(model), {fault: _names(found[fault]) for fault in _FAULTS})


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


def _drop_nothing(config: PretrainedConfig) -> None:
    """Turn off every kind of dropout: a run continued after a kill must reach the same parameters."""
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in key or "pdrop" in key or "layerdrop" in key):
            setattr(config, key, 0.0)


def _names(found: object) -> tuple[str, ...]:
    keys = cast("set[str | tuple[object, ...]]", found)
    return tuple(sorted(key if isinstance(key, str) else str(key[0]) for key in keys))
