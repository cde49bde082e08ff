"""Mixtures for a study from its text alone: n-grams of the partitions beside those of its goal's held-out domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from objectives.target import Target
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.ngrams import Kind, places_of, size_of, text_of, windows_of
from search.strategies.text_priors import Floats, importance_shares, likeliest_shares, smoothed, text_losses
from studies.study_file.sections import TextPrior

DESCRIPTIONS: Mapping[TextPrior, str] = {
    "unigrams": "the mixture under which the target's tokens are likeliest",
    "bigrams": "the same for pairs of tokens",
    "importance": "shares of the text that DSIR selects by pairs of tokens",
}


@dataclass(frozen=True)
class TextPriors:
    """The text of a pool beside that of a goal's domains (domain -> weight, summing to one), on the search split."""

    pool: Pool
    domains: Mapping[str, float]

    @classmethod
    def of(cls, pool: Pool, targets: Mapping[str, Target]) -> TextPriors:
        """Take the domains of all targets, each target alike. Raises `ConfigError` where losses are maximised."""
        shares = dict.fromkeys((name for target in targets.values() for name in target.weights), 0.0)
        for called, target in targets.items():
            if target.direction == "maximise":
                raise ConfigError(f"target {called!r} is maximised, and text alone only says where a loss is low")
            for name, weight in target.weights.items():
                shares[name] += weight / len(targets)
        return cls(pool, shares)

    def mixture(self, name: TextPrior) -> Mixture:
        """Compute a prior by its name."""
        if name == "importance":
            windows = [
                np.concatenate([places_of("bigrams", windows_of(self.pool.corpus.train[unit])) for unit in units])
                for units in self._units
            ]
            weights = importance_shares(windows, self._counted("bigrams")[1], seed=0)
        else:
            weights = likeliest_shares(*self._counted(name))
        return Mixture.from_array(self.pool.names, weights / weights.sum())

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
