"""The files of checkpoints made elsewhere: found and checked by their beginnings, before any weight is loaded.

Only safetensors and JSON are read, no pickle and no code.
"""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pool.checkpoints.manifest import CONFIG, WEIGHTS
from pool.errors import CorpusError, PoolError
from pool.files.digests import DigestOf, digest_file, digest_json

INDEX, TOKENIZER = "model.safetensors.index.json", "tokenizer.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_SLOW_TOKENIZERS = ("vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_POINTER = b"version https://git-lfs"
_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_PLAIN = "F32"
_LANGUAGE_MODEL = "AutoModelForCausalLM"
GGUF = ".gguf"
_GGUF_PART = re.compile(r"-\d{5}-of-\d{5}$")
_BUFFERS = {"BOOL", "U8", "I64", "I32"}
"""Older checkpoints also hold masks and positions, which are made anew."""


@dataclass(frozen=True)
class ForeignFiles:
    """The files of a checkpoint.

    weights: one file, or the shards of one model; a GGUF file holds configuration and tokenizer, too.
    tokenizer: folder of tokenizer.json, or a GGUF file.
    digest_of: how to digest a file.
    notes: what to know of the choice of files and of the type of weights.
    """

    folder: Path
    weights: tuple[Path, ...]
    tokenizer: Path
    digest_of: DigestOf = digest_file
    notes: tuple[str, ...] = ()

    @property
    def weights_digest(self) -> str:
        """Digest of the file, or of the digests of the shards. Raises `OSError`."""
        digests = [self.digest_of(path) for path in self.weights]
        return digests[0] if len(digests) == 1 else digest_json(digests)

    @property
    def gguf(self) -> Path | None:
        return self.weights[0] if self.weights[0].suffix == GGUF else None

    @property
    def config_digest(self) -> str:
        return self.digest_of(self.gguf or self.folder / CONFIG)


def find_foreign(
    folder: Path, what: str, tokenizer: Path | None = None, *, loaded_as: str = _LANGUAGE_MODEL
) -> ForeignFiles:
    """Find and check the files of a checkpoint, called `what` in messages. Raises `PoolError` with the remedy.

    loaded_as: the class of transformers that loads it.
    """
    if folder.suffix == GGUF and not folder.is_dir() and loaded_as == _LANGUAGE_MODEL:
        return _find_gguf(folder, what, tokenizer)
    if not folder.is_dir():
        raise PoolError(
            f"{what}: {folder} is no folder; give that of a checkpoint ({CONFIG}, {WEIGHTS} and {TOKENIZER})"
        )
    if (folder / "adapter_config.json").is_file():
        raise PoolError(
            f"{what}: {folder} holds an adapter, not a whole model; merge it into its model first, with peft's "
            "merge_and_unload(), and save that"
        )
    folder, notes = _snapshot(folder, what)
    weights, kinds = _weights(folder, what, loaded_as)
    if weights == (folder / WEIGHTS,) and (folder / INDEX).is_file() and _missing_shards(folder, what):
        notes.append(f"{WEIGHTS} is taken, as shards that {INDEX} names are not there")
    config = _json(folder / CONFIG, what)
    if "quantization_config" in config:
        raise PoolError(f"{what}: {folder / CONFIG} says that the model is quantised; give it in 16 or 32 bits")
    home = tokenizer or folder
    _check_tokenizer(home, what)
    settings = home / "tokenizer_config.json"
    for path, table in ((folder / CONFIG, config), (settings, _json(settings, what) if settings.exists() else {})):
        if "auto_map" in table:
            raise PoolError(
                f"{what}: {path} asks for code of its own (auto_map), and code of others is never run; give a model of "
                "an architecture that transformers has"
            )
    if kinds - {_PLAIN}:
        exactly = "rounded to" if "F64" in kinds else "taken as"
        notes.append(
            f"its weights, stored as {', '.join(sorted(_FLOATS[kind] for kind in kinds))}, are {exactly} float32"
        )
    return ForeignFiles(folder, weights, home, notes=tuple(notes))


def _find_gguf(path: Path, what: str, tokenizer: Path | None) -> ForeignFiles:
    _refuse_pointer(path, what)
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise PoolError(f"{what}: {path}: {error.strerror}; give a GGUF file, or a folder with {WEIGHTS}") from None
    if not is_gguf:
        raise PoolError(f"{what}: {path} does not begin as a GGUF file; copy it again")
    if _GGUF_PART.search(path.stem):
        raise PoolError(f"{what}: {path} is one of several parts; make one file of them: `llama-gguf-split --merge`")
    if tokenizer is not None:
        _check_tokenizer(tokenizer, what)
    return ForeignFiles(path.parent, (path,), tokenizer or path)


def _snapshot(folder: Path, what: str) -> tuple[Path, list[str]]:
    """Take the one snapshot within a folder of the hub's cache."""
    if (folder / CONFIG).exists() or not (folder / "snapshots").is_dir():
        return folder, []
    found = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    if len(found) != 1:
        names = ", ".join(f"snapshots/{path.name}" for path in found) or "none"
        raise PoolError(f"{what}: {folder} is a folder of the hub's cache; give one of its snapshots ({names})")
    return found[0], [f"{folder} is a folder of the hub's cache: its one snapshot, {found[0].name}, is taken"]


def _check_tokenizer(home: Path, what: str) -> None:
    path = home / TOKENIZER
    if path.is_file():
        _refuse_pointer(path, what)
        return
    if slow := [name for name in _SLOW_TOKENIZERS if (home / name).is_file()]:
        kind = "GPT2Tokenizer" if (home / "merges.txt").is_file() else "AutoTokenizer"
        raise PoolError(
            f"{what}: {path} is missing, and {slow[0]} beside it is of a slow tokenizer; make the file from it: "
            f"python -c \"from transformers import {kind} as T; T.from_pretrained('{home}').save_pretrained('{home}')\""
        )
    raise PoolError(
        f"{what}: {path} is missing; save the tokenizer it was trained with there, with "
        "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"
    )


def _refuse_pointer(path: Path, what: str) -> None:
    """Raise `PoolError` for a Git LFS pointer in place of a file; unreadable files are left to their readers."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:
        return
    if is_pointer:
        raise PoolError(f"{what}: {path} is a Git LFS pointer, not the file itself; fetch the file: `git lfs pull`")


def _weights(folder: Path, what: str, loaded_as: str) -> tuple[tuple[Path, ...], set[str]]:
    """Return the files of the weights, and the types of their floating-point tensors."""
    found: tuple[Path, ...]
    is_whole, has_index = (folder / WEIGHTS).is_file(), (folder / INDEX).is_file()
    if has_index and not (is_whole and _missing_shards(folder, what)):
        found = _shards(folder, what)
        if is_whole and (folder / WEIGHTS) not in found:
            raise PoolError(
                f"{what}: {folder} holds its weights twice, in {WEIGHTS} and in the shards of {INDEX}, and they may "
                "differ; take one of them away"
            )
    elif is_whole:
        found = (folder / WEIGHTS,)
    elif shards := sorted(path.name for path in folder.glob("*.safetensors") if _SHARD.fullmatch(path.name)):
        raise PoolError(f"{what}: {folder} holds shards ({shards[0]}) without their {INDEX}; copy that file, too")
    else:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise PoolError(
                f"{what}: {folder} has no {WEIGHTS}, and pickles ({pickles[0]}) can run code when they are loaded; "
                'where you trust it, save it anew as safetensors: python -c "from transformers import '
                f"{loaded_as} as M; M.from_pretrained('{folder}').save_pretrained('{folder}')\""
            )
        if packed := sorted(folder.glob(f"*{GGUF}")):
            raise PoolError(f"{what}: {folder} has no {WEIGHTS}; give the path of its GGUF file itself, {packed[0]}")
        raise PoolError(f"{what}: {folder / WEIGHTS} is missing; only safetensors checkpoints are read")
    return found, {kind for path in found for kind in _types(path, what)} & _FLOATS.keys()


def _shards(folder: Path, what: str) -> tuple[Path, ...]:
    names = _named_shards(folder, what)
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise PoolError(
                f"{what}: {folder / INDEX} names {name!r}, which is no safetensors file beside it; copy it again"
            )
    if strange := sorted({path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name)} - {*names}):
        raise PoolError(
            f"{what}: {folder} holds {strange[0]}, which {INDEX} does not name: the two are of different copies; copy "
            "the index again, or delete the file if it is of another model"
        )
    return tuple(folder / name for name in names)


def _named_shards(folder: Path, what: str) -> list[str]:
    named = _json(folder / INDEX, what).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not names:
        raise PoolError(f"{what}: {folder / INDEX} names no shards; copy the checkpoint again")
    return names


def _missing_shards(folder: Path, what: str) -> list[str]:
    return [name for name in _named_shards(folder, what) if not (folder / name).is_file()]


def _types(path: Path, what: str) -> Collection[str]:
    """Return the types of the tensors of a file."""
    _refuse_pointer(path, what)
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
        if kind not in _FLOATS.keys() | _BUFFERS:
            raise PoolError(
                f"{what}: {path} holds {name} as {kind}, which is quantised or no type of weights; give the "
                "checkpoint in float32, bfloat16 or float16"
            )
    return stored.values()


def _json(path: Path, what: str) -> dict[str, object]:
    _refuse_pointer(path, what)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PoolError(f"{what}: {path} is missing; give a folder that save_pretrained() wrote") from None
    except (OSError, ValueError) as error:
        raise PoolError(f"{what}: {path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise PoolError(f"{what}: {path} is no JSON object")
    return table


def describe_embedding_model(name: str, folder: Path, digest_of: DigestOf) -> dict[str, str]:
    """Digest the files behind a model's embeddings, by content alone.

    Raises `CorpusError` for a folder without a model, safetensors or a tokenizer, or with code of its own.
    """
    with as_corpus_error():
        files = replace(find_foreign(folder, called_embeddings(name), loaded_as="AutoModel"), digest_of=digest_of)
    try:
        return {
            "weights": files.weights_digest,
            "config": files.config_digest,
            "tokenizer": digest_of(files.tokenizer / TOKENIZER),
        }
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(
            f"{called_embeddings(name)}: {error.filename or folder}: {reason}; give a folder to be read"
        ) from None


def called_embeddings(name: str) -> str:
    """Name the option of a partition's embedding model in messages."""
    return f"[corpus.partitions.{name}.cluster] embeddings"


@contextmanager
def as_corpus_error() -> Iterator[None]:
    """Without the model the text cannot be split: a fault of the checkpoint is a fault of the corpus."""
    try:
        yield
    except PoolError as error:
        raise CorpusError(str(error)) from None
