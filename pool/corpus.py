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

    Checked at birth: nothing empty, and no document in two of these places.
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
    stands in a partition or in another held-out domain: that overlap raises `CorpusError`, naming the domain.
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
    for name, texts in held_out.items():
        ranked = _ranked_unique(texts, set())
        for text in ranked:
            if _key(text) in seen:
                raise _in_two_places(text, "a partition or another held-out domain", f"held-out domain {name!r}")
        seen.update(map(_key, ranked))
        domains[name] = _halves(ranked)
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
    homes = [(f"partition {name!r}", texts) for name, texts in partitions.items()]
    homes += [
        (f"held-out domain {name!r} ({split} split)", held_out[name][split]) for name in held_out for split in SPLITS
    ]
    seen: dict[bytes, str] = {}
    for home, texts in homes:
        for text in texts:
            other = seen.setdefault(_key(text), home)
            if other != home:
                raise _in_two_places(text, other, home)


def _in_two_places(text: str, one: str, other: str) -> CorpusError:
    return CorpusError(f"the same document is in {one} and in {other}: {text[:60]!r}; remove it from one of them")


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
