"""The tokenizer's core, as text is encoded with here: whole texts, and offsets that leave no character out.

Tokenizers of others may cut texts off, fill them up, or trim white space from offsets, of which bytes are counted.
"""

from functools import lru_cache
from pathlib import Path
from typing import cast

from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerFast,
)

from pool.errors import PoolError


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the pool's tokenizer. Raises `PoolError` when it is missing or broken."""
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cast(PreTrainedTokenizerFast, tokenizer)
    except Exception as error:  # as for models: many types, one fact
        raise PoolError(f"{folder}: not a tokenizer that can be loaded: {error}") from None


def plain_backend(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Return what encodes for a tokenizer: its own backend where that is plain, else a plain copy."""
    backend = tokenizer.backend_tokenizer
    if backend.truncation is None and backend.padding is None and backend.post_processor is None:
        return backend
    return _plain(backend.to_str())


@lru_cache(maxsize=1)
def _plain(written: str) -> Tokenizer:
    backend = Tokenizer.from_str(written)
    backend.no_truncation()
    backend.no_padding()
    backend.post_processor = None
    return backend
