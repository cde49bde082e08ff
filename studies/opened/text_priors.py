"""Mixtures for a study from its text alone: text of the partitions beside that of its goal's held-out domains.

Text is counted as n-grams, or read by a model: the pool's seed, or an encoder of the user's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from objectives.target import Target
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.layout import SEED
from pool.parts.store import Pool
from pool.tokens.held_out import Tokens
from pool.tokens.ngrams import Kind, places_of, size_of, text_of, windows_of
from search.strategies.text_priors import (
    Floats,
    importance_shares,
    likeliest_shares,
    selected_shares,
    similar_shares,
    smoothed,
    text_losses,
)
from studies.study_file.search_sections import TextPrior

DESCRIPTIONS: Mapping[TextPrior, str] = {
    "unigrams": "the mixture under which the target's tokens are likeliest",
    "bigrams": "the same for pairs of tokens",
    "importance": "shares of the text that DSIR selects by pairs of tokens",
    "embeddings": "by the likeness of mean hidden states: the seed's, or those of [search] encoder",
    "cross-entropy": "shares of the text that the seed reads best after a little of the target's (Moore and Lewis)",
}
COUNTED: tuple[Kind, ...] = get_args(Kind)
"""Priors by likelihood: they rank any mixture."""
READ: tuple[TextPrior, ...] = ("embeddings", "cross-entropy")
"""Priors for which a model reads text."""
UNIFORM_SHARE, DECIMALS = 0.01, 4
"""Of the centre of a penalty, which must be above zero, and alike whatever the order of a model's sums."""
ENCODER = "[search] encoder"
SAMPLED = 96
"""Windows of each partition that a model reads, evenly over its text."""


@dataclass(frozen=True)
class TextPriors:
    """The text of a pool beside that of a goal's domains (domain -> weight, summing to one), on the search split.

    encoder: folder of a model for `embeddings`; the pool's seed without one
    """

    pool: Pool
    domains: Mapping[str, float]
    encoder: Path | None = None

    @classmethod
    def of(cls, pool: Pool, targets: Mapping[str, Target], encoder: Path | None = None) -> TextPriors:
        """Take the domains of all targets, each target alike. Raises `ConfigError` where losses are maximised."""
        shares = dict.fromkeys((name for target in targets.values() for name in target.weights), 0.0)
        for called, target in targets.items():
            if target.direction == "maximise":
                raise ConfigError(f"target {called!r} is maximised, and text alone only says where a loss is low")
            for name, weight in target.weights.items():
                shares[name] += weight / len(targets)
        return cls(pool, shares, encoder)

    def mixture(self, name: TextPrior) -> Mixture:
        """Compute a prior by its name, once. Raises `PoolError` or `CorpusError` for a model that cannot read."""
        if name not in self._mixtures:
            weights = self._shares(name)
            self._mixtures[name] = Mixture.from_array(self.pool.names, weights / weights.sum())
        return self._mixtures[name]

    def centre(self, name: TextPrior) -> Mixture:
        """Return a prior as the centre of a penalty: a hundredth of it uniform, its weights of four decimals."""
        mixed = (1 - UNIFORM_SHARE) * self.mixture(name).array + UNIFORM_SHARE / len(self.pool.names)
        weights = np.maximum(mixed.round(DECIMALS), 10.0**-DECIMALS)
        return Mixture.from_array(self.pool.names, weights / weights.sum())

    def _shares(self, name: TextPrior) -> Floats:
        if name == "embeddings":
            return similar_shares(*self._embedded())
        if name == "cross-entropy":
            return selected_shares(self._differences())
        if name != "importance":
            return likeliest_shares(*self._counted(name))
        windows = [
            np.concatenate([places_of("bigrams", windows_of(self.pool.corpus.train[unit])) for unit in units])
            for units in self._units
        ]
        return importance_shares(windows, self._counted("bigrams")[1], seed=0)

    @cached_property
    def _mixtures(self) -> dict[TextPrior, Mixture]:
        return {}

    def losses(self, name: Kind, mixtures: Sequence[Mixture]) -> Floats:
        """Return the cross-entropy (N,) of the target's n-grams under mixtures, nats per n-gram."""
        weights = np.stack([mixture.over(self.pool.names).array for mixture in mixtures])
        return text_losses(weights, *self._counted(name))

    @cached_property
    def _units(self) -> list[tuple[str, ...]]:
        return [self.pool.units_of(name) for name in self.pool.names]

    @cached_property
    def _vocabulary(self) -> int:
        train, held_out = self.pool.corpus.train, self.pool.corpus.held_out["search"]
        texts = [*train.values(), *(text_of(held_out[name]) for name in self.domains)]
        return 1 + max(int(text.max(initial=0)) for text in texts)

    def _counted(self, kind: Kind) -> tuple[Floats, Floats]:
        """Return the distributions of the partitions (K, B) and of the target (B,), counted once."""
        if kind not in self._known:
            self._known[kind] = self._partitions(kind), self._target(kind)
        return self._known[kind]

    @cached_property
    def _known(self) -> dict[Kind, tuple[Floats, Floats]]:
        return {}

    def _partitions(self, kind: Kind) -> Floats:
        """Return the smoothed distributions (K, B) of the partitions."""
        train = self.pool.corpus.train
        return smoothed(np.stack([sum(self._counts(kind, train[unit]) for unit in units) for units in self._units]))

    def _target(self, kind: Kind) -> Floats:
        """Return the distribution (B,) of the goal's domains, each by its weight."""
        held_out = self.pool.corpus.held_out["search"]
        every = [(weight, self._counts(kind, text_of(held_out[name]))) for name, weight in self.domains.items()]
        return np.asarray(sum(weight * counts / counts.sum() for weight, counts in every))

    def _counts(self, kind: Kind, tokens: np.ndarray) -> Floats:
        size = size_of(kind, self._vocabulary)
        return np.bincount(places_of(kind, tokens), minlength=size).astype(np.float64)

    def _embedded(self) -> tuple[list[Floats], Floats]:
        """Return vectors of the partitions' windows (N_k, D), and of the target (D,), its domains by their weights."""
        texts = [*self._windows, *self._target_windows.values()]
        vectors = self._by_encoder(texts, self.encoder) if self.encoder else self._by_seed(texts)
        partitions, domains = vectors[: len(self._windows)], vectors[len(self._windows) :]
        weighted = zip(self._target_windows, domains, strict=True)
        return partitions, np.asarray(sum(self.domains[name] * one.mean(axis=0) for name, one in weighted))

    def _by_seed(self, texts: Sequence[Tokens]) -> list[Floats]:
        from objectives.scoring.text_reader import reading  # loads torch

        with reading(self.pool.folder / SEED) as seed:
            return [seed.mean_states(one) for one in texts]

    def _by_encoder(self, texts: Sequence[Tokens], folder: Path) -> list[Floats]:
        from pool.corpus.embeddings import Embedder, load_encoder  # loads torch
        from pool.tokens.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(self.pool.folder / "tokenizer")
        embedder = Embedder(load_encoder(ENCODER, folder))
        try:
            written = [tokenizer.batch_decode(one.tolist(), skip_special_tokens=True) for one in texts]
            return [embedder.of(one).astype(np.float64) for one in written]
        finally:
            embedder.leave()

    def _differences(self) -> list[Floats]:
        """Return the nats per token of the partitions' windows (N_k,) after some of the target's text less before."""
        from objectives.scoring.text_reader import reading  # loads torch

        every = self._target_windows
        longest = max(one.shape[1] for one in every.values())
        shares = {name: self.domains[name] / len(one) for name, one in every.items() if one.shape[1] == longest}
        text = np.concatenate([every[name] for name in shares])
        with reading(self.pool.folder / SEED) as seed:
            before = [seed.mean_nats(one) for one in self._windows]
            drawn = np.concatenate([np.full(len(every[name]), share) for name, share in shares.items()])
            seed.learn(text, drawn, learning_rate=self.pool.config.recipe.learning_rate)
            return [seed.mean_nats(one) - old for one, old in zip(self._windows, before, strict=True)]

    @cached_property
    def _windows(self) -> list[Tokens]:
        """Sample the windows (N_k, T_k) of each partition; of units shorter than a window, the longest ones."""
        found = []
        for units in self._units:
            parts = [windows_of(self.pool.corpus.train[unit]) for unit in units]
            longest = max(part.shape[1] for part in parts)
            every = np.concatenate([part for part in parts if part.shape[1] == longest])
            found.append(every[np.linspace(0, len(every) - 1, min(SAMPLED, len(every))).astype(int)])
        return found

    @cached_property
    def _target_windows(self) -> dict[str, Tokens]:
        held_out = self.pool.corpus.held_out["search"]
        return {name: windows_of(text_of(held_out[name])) for name in self.domains}
