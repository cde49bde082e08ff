"""A corpus: training documents in partitions, and held-out documents in two splits per domain.

The surprising thing: splits are made by ranking documents by a hash of their text, so they depend neither on
the order of files nor on a random state, and an exact duplicate can never stand on both sides.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pool.errors import CorpusError

Split = Literal["search", "test"]
SPLITS: tuple[Split, Split] = ("search", "test")

Documents = tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Training documents by partition and held-out documents by domain and split.

    Checked at birth: nothing empty, no document in training and held-out text, or in two splits.
    Raises `CorpusError`.
    """

    partitions: Mapping[str, Documents]
    held_out: Mapping[str, Mapping[Split, Documents]]

    def __post_init__(self) -> None:
        for name, documents in self.partitions.items():
            if not documents:
                raise CorpusError(f"partition {name!r} has no training text; give it files with text in them")
        for name, splits in self.held_out.items():
            for split in SPLITS:
                if not splits[split]:
                    raise CorpusError(
                        f"held-out domain {name!r} has no documents in its {split} split: it needs at least "
                        "two different documents; add text, or raise held_out_share"
                    )
        if not self.held_out:
            raise CorpusError("no held-out domain: set held_out_share above 0 or add [corpus.held_out.NAME]")
        _check_disjoint(self.partitions, self.held_out)


def make_corpus(
    partitions: Mapping[str, Iterable[str]], held_out: Mapping[str, Iterable[str]], *, held_out_share: float
) -> Corpus:
    """Drop exact duplicates, set `held_out_share` of each partition aside, and split held-out text in two.

    A document that stands in several partitions is kept in the first. Held-out files are not cleaned of what
    stands in training text: that overlap raises `CorpusError`, naming the partition and the domain.
    """
    seen: set[bytes] = set()
    train: dict[str, Documents] = {}
    domains: dict[str, dict[Split, Documents]] = {}
    for name, texts in partitions.items():
        ranked = _ranked_unique(texts, seen)
        kept_out = math.ceil(len(ranked) * held_out_share)
        if held_out_share > 0:
            domains[name] = _halves(ranked[:kept_out])
        train[name] = tuple(ranked[kept_out:])
    seen_held_out: set[bytes] = set()
    for name, texts in held_out.items():
        domains[name] = _halves(_ranked_unique(texts, seen_held_out))
    return Corpus(train, domains)


def _ranked_unique(texts: Iterable[str], seen: set[bytes]) -> list[str]:
    ranked: list[tuple[bytes, str]] = []
    for text in texts:
        key = _key(text)
        if text.strip() and key not in seen:
            seen.add(key)
            ranked.append((key, text))
    return [text for _, text in sorted(ranked)]


def _halves(documents: Sequence[str]) -> dict[Split, Documents]:
    return {"search": tuple(documents[0::2]), "test": tuple(documents[1::2])}


def _check_disjoint(partitions: Mapping[str, Documents], held_out: Mapping[str, Mapping[Split, Documents]]) -> None:
    home = {_key(text): f"partition {name!r}" for name, texts in partitions.items() for text in texts}
    for name, splits in held_out.items():
        for split in SPLITS:
            for text in splits[split]:
                other = home.setdefault(_key(text), f"held-out domain {name!r}")
                if other.startswith("partition"):
                    raise CorpusError(
                        f"the same document is in {other} and in held-out domain {name!r} ({split} split): "
                        f"{text[:60]!r}; remove it from one of them"
                    )
        _check_splits_disjoint(name, splits)


def _check_splits_disjoint(name: str, splits: Mapping[Split, Documents]) -> None:
    both = {_key(text) for text in splits["search"]} & {_key(text) for text in splits["test"]}
    if both:
        raise CorpusError(f"held-out domain {name!r}: {len(both)} documents are in both splits; drop duplicates")


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
