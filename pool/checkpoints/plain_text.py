"""Tokenizers for text alone: all of a text is text, also the name of a special token.

A library's tokenizer turns the text `<|endoftext|>` into the token between documents. Here Mixscout alone writes this
token, and the text becomes tokens of its letters. All other text has the same tokens as elsewhere.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

_OUT_OF_REACH = "\U0010ffff"
"""Prefix for names of special tokens in a model's vocabulary: no character, so no text spells it."""
_UNKNOWN = "unk_token"


@dataclass(frozen=True)
class TextTokenizer:
    """A core that reads names of special tokens as text.

    special: tokens of no text
    unknown: the token for text outside the vocabulary; None for vocabularies without a gap
    unknown_name: its name, for messages
    """

    core: Tokenizer
    special: frozenset[int]
    unknown: int | None
    unknown_name: str


def for_text(written: str, *, bare: bool) -> TextTokenizer:
    """Return the core of a tokenizer, `written` as JSON; a `bare` one also cuts, fills up and adds nothing."""
    parts: dict[str, Any] = json.loads(written)
    model, special = parts["model"], [token for token in parts["added_tokens"] if token["special"]]
    unknown_name, unknown = _unknown(model)
    core = Tokenizer.from_str(json.dumps(parts) if _hide(model, special) else written)
    core.encode_special_tokens = True
    if bare:
        core.no_truncation()
        core.no_padding()
        core.post_processor = None
    ids = frozenset(int(token["id"]) for token in special) - {unknown}
    return TextTokenizer(core, ids, unknown, unknown_name)


def _unknown(model: Mapping[str, Any]) -> tuple[str, int | None]:
    """Name the token for unknown text, and its number; none for a model that falls back to bytes."""
    if model.get("byte_fallback"):
        return "", None
    if model["type"] == "Unigram":
        number = model.get("unk_id")
        return ("", None) if number is None else (str(model["vocab"][number][0]), int(number))
    name = model.get(_UNKNOWN)
    return (str(name), model["vocab"].get(name)) if name else ("", None)


def _hide(model: dict[str, Any], special: list[dict[str, Any]]) -> bool:
    """Rename special tokens within a model's reach; tell of any.

    Word-level and Unigram models find them in their vocabulary, BPE by its merges. Single letters stay: text is made of
    letters.
    """
    named = {token["content"]: token for token in special if len(token["content"]) > 1}
    known = _within_reach(model) & named.keys()
    for name in known:
        named[name]["content"] = _hidden(name)
    if not known:
        return False
    if model["type"] == "Unigram":
        model["vocab"] = [[_hidden(name) if name in known else name, score] for name, score in model["vocab"]]
    else:
        model["vocab"] = {_hidden(name) if name in known else name: number for name, number in model["vocab"].items()}
    if model["type"] == "BPE":
        merges = [(pair, _merged(model, pair)) for pair in model["merges"]]
        model["merges"] = [pair for pair, names in merges if not known & set(names)]
    if model.get(_UNKNOWN) in known:
        model[_UNKNOWN] = _hidden(model[_UNKNOWN])
    return True


def _within_reach(model: Mapping[str, Any]) -> set[str]:
    if model["type"] == "Unigram":
        return {name for name, _ in model["vocab"]}
    if model["type"] == "BPE" and not model.get("ignore_merges"):
        return {_merged(model, pair)[-1] for pair in model["merges"]}
    return set(model["vocab"])


def _merged(model: Mapping[str, Any], pair: str | list[str]) -> tuple[str, str, str]:
    """Return both parts of a merge, and their whole."""
    first, second = pair.split(" ") if isinstance(pair, str) else pair
    return first, second, first + second.removeprefix(model.get("continuing_subword_prefix") or "")


def _hidden(name: str) -> str:
    return _OUT_OF_REACH + name
