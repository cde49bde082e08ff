"""Tokens that say nothing of their text: for text unknown to the tokenizer, and special tokens within text.

A tokenizer without every letter writes one token for all that it does not know. Such text is easy to predict, so that
its loss is low and means nothing.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from pool.checkpoints.plain_text import TextTokenizer
from pool.corpus.corpus import domain_place, training_place
from pool.errors import CorpusError
from pool.tokens.held_out import Tokens
from pool.tokens.prepared import CorpusManifest, PreparedCorpus, TextSummary

_MOST_NAMED = 5
_TOKENS_AT_ONCE = 2**22


def unknown_shares(corpus: CorpusManifest) -> dict[str, float]:
    """Return the share of unknown tokens of each partition and held-out domain with any, the largest first."""
    summaries: list[tuple[str, list[TextSummary]]] = [
        (training_place(name), [part]) for name, part in corpus.partitions.items()
    ]
    summaries += [(domain_place(name), [corpus.search[name], corpus.test[name]]) for name in corpus.search]
    shares = {}
    for what, parts in summaries:
        if unknown := sum(part.unknown_tokens or 0 for part in parts):
            shares[what] = unknown / sum(part.tokens for part in parts)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def refuse_unknown(what: str, text: TextSummary, most: float, name: str) -> None:
    """Raise `CorpusError` for `text` with a larger share of the unknown token `name` than `most`."""
    share = (text.unknown_tokens or 0) / text.tokens
    if share > most:
        raise CorpusError(
            f"{what}: {share:.1%} of its {text.tokens:,} tokens are {name}, text unknown to the tokenizer, more than "
            f"[corpus] max_unknown_share {most:g}: a model sees no words there, and its loss means nothing; take a "
            "seed whose tokenizer knows this text, leave the text out, or raise max_unknown_share"
        )


def check_unknown(corpus: CorpusManifest, most: float, name: str) -> None:
    """Raise `CorpusError` for the first text of a corpus with too large a share of unknown tokens."""
    for partition, part in corpus.partitions.items():
        refuse_unknown(training_place(partition), part, most, name)
    for domain in corpus.search:
        for split in (corpus.search, corpus.test):
            refuse_unknown(domain_place(domain), split[domain], most, name)


def listed(shares: Mapping[str, float]) -> str:
    some = [f"{what} {share:.2%}" for what, share in list(shares.items())[:_MOST_NAMED]]
    more = len(shares) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")


def special_within(prepared: PreparedCorpus, tokenizer: TextTokenizer, prefix: int) -> dict[str, int]:
    """Count special tokens within text, made by versions that read their names so; texts without any are left out."""
    special, found = list(tokenizer.special), {}
    for name, tokens in prepared.train.items():
        between = prepared.manifest.partitions[name].documents if prefix in special else 0
        found[training_place(name)] = sum(int(np.isin(some, special).sum()) for some in _blocks(tokens)) - between
    for domains in prepared.held_out.values():
        for name, windows in domains.items():
            what = domain_place(name)
            found[what] = found.get(what, 0) + windows.count(special)
    return {what: count for what, count in found.items() if count > 0}


def _blocks(tokens: Tokens) -> Iterator[Tokens]:
    for start in range(0, len(tokens), _TOKENS_AT_ONCE):
        yield tokens[start : start + _TOKENS_AT_ONCE]
