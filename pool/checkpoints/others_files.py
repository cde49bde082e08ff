"""The files of a checkpoint that others made, looked at before any of them is loaded.

Only safetensors and JSON are read, no pickle and no code; whatever else is asked for is refused by name.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from pool.checkpoints.checkpoint import CONFIG, WEIGHTS
from pool.errors import PoolError
from pool.files.digests import DigestOf, digest_file, digest_json

INDEX, TOKENIZER = "model.safetensors.index.json", "tokenizer.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_EXACT_IN_FLOAT32 = {"F32", "F16", "BF16"}
_BUFFERS = {"BOOL", "U8", "I64", "I32"}
"""Older checkpoints hold masks and positions too, which are made anew."""
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class ForeignFiles:
    """Files found: `weights` is one file or the shards of one model; `tokenizer` the folder of tokenizer.json."""

    folder: Path
    weights: tuple[Path, ...]
    tokenizer: Path

    digest_of: DigestOf = digest_file
    """How a file is digested."""

    @property
    def weights_digest(self) -> str:
        """Digest of the weights: of the file, or of the shards' digests. Raises `OSError`."""
        digests = [self.digest_of(path) for path in self.weights]
        return digests[0] if len(digests) == 1 else digest_json(digests)

    @property
    def config_digest(self) -> str:
        """Digest of config.json. Raises `OSError`."""
        return self.digest_of(self.folder / CONFIG)


def find_foreign(folder: Path, what: str, tokenizer: Path | None = None) -> ForeignFiles:
    """Find and check a checkpoint's files; `what` is what messages call it. Raises `PoolError` with the remedy."""
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
    """Read the header alone: how tensors are stored, before loading turns them all into float32."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(length))
        stored = {str(name): str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise PoolError(f"{what}: {path} is not a whole safetensors file: {error}; copy it again") from None
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
