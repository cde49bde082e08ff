"""The pool's tokenizer: byte-level BPE trained once on the corpus, or the seed's own; every model of a pool shares it.

Text is encoded by its plain core. A tokenizer made elsewhere may truncate, pad, or trim white space from offsets, and
bytes are counted by offsets. Text that spells a special token is text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pool.checkpoints.plain_text import TextTokenizer, for_text
from pool.config.pool_file import TokenizerConfig
from pool.errors import PoolError, PoolMismatchError, first_line
from pool.files.digests import digest_file, digest_json
from pool.files.records import MANIFEST, Record, read_record, write_record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
_REMEDY = "run `mixscout pool build POOL.toml`, which makes it again"
_SPLITTING = ("normalizer", "pre_tokenizer")


class TokenizerManifest(Record):
    """How the tokenizer was trained (None: the seed brought it), its digest, and those of its files."""

    config: TokenizerConfig | None
    digest: str
    files: dict[str, str] = {}


def load_tokenizer(folder: Path, remedy: str = _REMEDY, *, most: int | None = None) -> PreTrainedTokenizerFast:
    """Load a tokenizer, by default the pool's. Raises `PoolError` with the `remedy` when it is missing or broken.

    most: for a GGUF file in the folder's place, the rows of its model, beyond which transformers adds tokens
    """
    from transformers import PreTrainedTokenizerFast

    try:
        if folder.is_file():
            return _of_gguf(folder, most)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cast(PreTrainedTokenizerFast, tokenizer)
    except Exception as error:  # transformers raises many types for one fact
        raise PoolError(f"{folder}: not a tokenizer that can be loaded: {first_line(error)}; {remedy}") from None


def _of_gguf(path: Path, most: int | None) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    read = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    parts = json.loads(read.backend_tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if most is None or token["id"] < most]
    names = {name: getattr(read, name) for name in ("bos_token", "eos_token", "pad_token")}
    backend = Tokenizer.from_str(json.dumps(parts))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)  # type: ignore[no-untyped-call]


def plain(tokenizer: PreTrainedTokenizerFast) -> TextTokenizer:
    """Return a copy of the tokenizer's core for text alone, without truncation, padding and post-processing."""
    return _plain(tokenizer.backend_tokenizer.to_str())


@lru_cache(maxsize=1)
def _plain(written: str) -> TextTokenizer:
    return for_text(written, bare=True)


def end_of_text(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the token before every document: the beginning-of-text token, or else the end-of-text token.

    Raises `PoolError` for a tokenizer with neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise PoolError(
        "the tokenizer has neither a bos_token nor an eos_token to stand before a document; set one in its "
        "tokenizer_config.json"
    )


def train_tokenizer(partitions: Mapping[str, Iterable[str]], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the beginning of every partition, evenly.

    Without a normaliser it loses nothing: decoding a text's tokens gives the text.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(partitions, config.sample_bytes), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sample(partitions: Mapping[str, Iterable[str]], total_bytes: int) -> Iterator[str]:
    for documents in partitions.values():
        left = total_bytes // len(partitions)
        for text in documents:
            if left <= 0:
                break
            left -= len(text.encode("utf-8", "surrogatepass"))
            yield text


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Digest a tokenizer's vocabulary and merges, and any splitting unlike that of tokenizers trained here."""
    parts, ours = (json.loads(one.to_str()) for one in (tokenizer.backend_tokenizer, _untrained()))
    added = [token["content"] for token in parts["added_tokens"]]
    if all(parts[key] == ours[key] for key in _SPLITTING) and added == [END_OF_TEXT]:
        return digest_json(parts["model"])
    return digest_json({key: parts[key] for key in ("model", "added_tokens", *_SPLITTING)})


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, config: TokenizerConfig | None, folder: Path) -> None:
    """Write a tokenizer into an existing empty folder, its manifest last."""
    tokenizer.save_pretrained(folder)
    files = {path.name: digest_file(path) for path in sorted(folder.iterdir())}
    write_record(folder / MANIFEST, TokenizerManifest(config=config, digest=tokenizer_digest(tokenizer), files=files))


def kept_tokenizer(folder: Path, wanted: TokenizerConfig | None, pool: str) -> PreTrainedTokenizerFast | None:
    """Load a pool's tokenizer from its folder; None before there is one.

    Raises `PoolError` for a damaged file, and `PoolMismatchError` for one trained otherwise than `wanted`.
    """
    if not has_tokenizer(folder, wanted, pool):
        return None
    tokenizer = load_tokenizer(folder)
    if read_record(folder / MANIFEST, TokenizerManifest).digest != tokenizer_digest(tokenizer):
        raise _changed(pool)
    return tokenizer


def has_tokenizer(folder: Path, wanted: TokenizerConfig | None, pool: str) -> bool:
    """Tell whether a pool has its tokenizer, verified by the digests of its files, without transformers.

    Raises as `kept_tokenizer`.
    """
    if not (folder / MANIFEST).is_file():
        return False
    manifest = read_record(folder / MANIFEST, TokenizerManifest)
    _check_files(folder, manifest)
    if manifest.config != wanted:
        raise _changed(pool)
    return True


def _changed(pool: str) -> PoolMismatchError:
    return PoolMismatchError(
        f"pool {pool!r}: its tokenizer, or the [tokenizer] table, has changed, and every model of a pool "
        "shares one tokenizer; build anew with `mixscout pool build POOL.toml --rebuild all`, or give the pool "
        "another name"
    )


def _check_files(folder: Path, manifest: TokenizerManifest) -> None:
    for name, expected in manifest.files.items():
        try:
            if digest_file(folder / name) != expected:
                raise PoolError(f"{folder / name} was truncated or altered since it was written; {_REMEDY}")
        except OSError as error:
            raise PoolError(f"{folder / name}: {error.strerror}; {_REMEDY}") from None
