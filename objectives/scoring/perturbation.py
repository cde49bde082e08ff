"""Perturbed held-out text: character noise, and other case.

Perturbed text has other tokens and bytes than its source, so losses are compared in bits per byte.
"""

from collections.abc import Callable, Iterable
from typing import Literal, cast

import numpy as np
from transformers import PreTrainedTokenizerFast

from pool.config.pool_file import ScoredText
from pool.errors import CorpusError
from pool.tokens.held_out import IGNORED, HeldOutWindows, held_out_windows

Kind = Literal["character-noise", "lower-case", "upper-case"]
Perturbation = Callable[[str, float, np.random.Generator], str]

_EDITS = ("keep", "delete", "double", "swap", "replace")


def character_noise(text: str, noise: float, rng: np.random.Generator) -> str:
    """Edit each character with probability `noise`, by one of four equally likely edits.

    The edits: delete; double; swap with the successor, which is then not edited (the last character stays); replace by
    another character of the text, drawn by frequency. Of text that would become empty, the first character stays.
    Raises `ValueError` for noise outside [0, 1].
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"the noise must be a probability, from 0 to 1: got {noise!r}")
    edits = np.where(rng.random(len(text)) < noise, rng.integers(1, len(_EDITS), len(text)), 0)
    pieces = []
    at = 0
    while at < len(text):
        edit = _EDITS[edits[at]]
        piece = text[at : at + (2 if edit == "swap" else 1)]
        pieces.append(_edited(edit, piece, text, rng))
        at += len(piece)
    return "".join(pieces) or text[:1]


def lower_case(text: str, noise: float, rng: np.random.Generator) -> str:
    return text.lower()


def upper_case(text: str, noise: float, rng: np.random.Generator) -> str:
    return text.upper()


PERTURBATIONS: dict[Kind, Perturbation] = {
    "character-noise": character_noise,
    "lower-case": lower_case,
    "upper-case": upper_case,
}


def perturbed(text: str, kind: Kind, *, noise: float, rng: np.random.Generator) -> str:
    """Perturb a text by the named kind. Raises `ValueError`."""
    return PERTURBATIONS[kind](text, noise, rng)


def raw_documents(windows: HeldOutWindows, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Decode the targets of each document, in order. Raises `CorpusError` for a tokenizer that loses text."""
    documents = []
    for number in np.unique(windows.document):
        targets = windows.targets[windows.document == number]
        text = tokenizer.decode(targets[targets != IGNORED], clean_up_tokenization_spaces=False)
        documents.append(cast(str, text))
    raw_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in documents)
    if raw_bytes != windows.bytes:  # never with a tokenizer trained here: it loses nothing
        raise CorpusError(
            f"the pool's tokenizer gives held-out text back changed ({raw_bytes} bytes for {windows.bytes}), so "
            "that it cannot be rewritten: noise and other case need a pool whose tokenizer normalises nothing"
        )
    return documents


def rewritten_windows(
    name: str, windows: HeldOutWindows, tokenizer: PreTrainedTokenizerFast, rewrite: Callable[[str], str]
) -> HeldOutWindows:
    """Rewrite every document of a domain, and cut it into windows of the same length, without a limit.

    Documents keep their order. Unchanged text may get other tokens at the end of a document that a limit had cut within
    a word. Raises `ValueError` for a document that becomes empty.
    """
    documents = [rewrite(text) for text in raw_documents(windows, tokenizer)]
    if not all(documents):
        raise ValueError(f"document {documents.index('')} of held-out domain {name!r} became empty; keep a character")
    return held_out_windows(name, documents, tokenizer, _without_limits(documents), windows.inputs.shape[1])


def _edited(edit: str, piece: str, text: str, rng: np.random.Generator) -> str:
    match edit:
        case "delete":
            return ""
        case "double":
            return 2 * piece
        case "swap":
            return piece[::-1]
        case "replace":
            others = text.replace(piece, "")
            return others[rng.integers(len(others))] if others else piece
    return piece


def _without_limits(documents: Iterable[str]) -> ScoredText:
    """Make limits that cut nothing: a token covers at least one byte."""
    most = sum(len(text.encode("utf-8", "surrogatepass")) for text in documents)
    return ScoredText(most, most)
