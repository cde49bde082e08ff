"""`MergedLoss`, the proxy: the held-out loss of a merge of members.

The hypothesis under test has its home here: a named rule turns the weights of a mixture into merge weights. The rule is
part of the digest. A loss of `Unloaded` members has its digest before torch loads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats, Precision
from objectives.merging.members.holding import Holding
from objectives.merging.rules import Identity, MergeRule
from objectives.scoring.paired import Challenge, EarlyStopping, Estimate, segments
from objectives.scoring.window_table import Rows, WindowTable
from objectives.target import Goal
from pool.corpus.corpus import Split
from pool.files.digests import digest_json
from pool.mixture import Mixture
from pool.parts.store import Pool

if TYPE_CHECKING:
    from objectives.merging.merge import StackedPool
    from objectives.scoring.scorer import Scorer

MERGES_AT_ONCE = 8
"""Mixtures merged by one matrix product; each merge takes one model's memory."""


@dataclass(frozen=True)
class ProxySettings:
    """How a merge is made and scored. `compiled` changes the last digits of a value, `early_stopping` none."""

    rule: MergeRule = field(default_factory=Identity)
    precision: Precision = "float32"
    compiled: bool = False
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)

    @property
    def digest_parts(self) -> dict[str, object]:
        """Everything that decides a value, in JSON types."""
        return {**self.rule.digest_parts, "precision": self.precision, "compiled": self.compiled}


@dataclass(frozen=True)
class Unloaded:
    """Members that `load` stacks when a merge first needs them; their names and digest are known before.

    there: the stacked members if they are loaded, else None
    """

    names: tuple[str, ...]
    holding: Holding
    load: Callable[[], StackedPool]
    there: Callable[[], StackedPool | None] = lambda: None
    dtype: str = "torch.float32"

    @property
    def digest_parts(self) -> dict[str, object]:
        return self.holding.digest_parts


def loaded(members: StackedPool | Unloaded) -> StackedPool:
    """Return the stacked members."""
    return members.load() if isinstance(members, Unloaded) else members


def make_room(members: StackedPool | Unloaded) -> None:
    """Free members and the resident model for a training, on a GPU or a CPU; the next merge or load needs them again.

    The training then has the memory of a training alone.
    """
    stacked = members.there() if isinstance(members, Unloaded) else members
    if stacked is not None:
        stacked.release(resident=True)


class MergedLoss:
    """Merges the pool's members by a mixture, and scores the merge on one split of the goal's domains.

    Deterministic on one machine with one number of threads. On a GPU the gradient is not, in its last digits: the
    backward pass of attention adds in any order there. Raises `ValueError` for a domain without held-out text.
    """

    def __init__(
        self,
        pool: Pool,
        stacked: StackedPool | Unloaded,
        target: Goal,
        split: Split,
        *,
        settings: ProxySettings | None = None,
    ) -> None:
        self._settings = settings or ProxySettings()
        self._members = stacked
        self.target = target
        self.table = WindowTable.of(pool.corpus.held_out[split], target.domains)
        parts = {**self._settings.digest_parts, **stacked.digest_parts}
        self._pool = pool
        self._but_for_members = value_parts("merged", pool, stacked, target, split, settings=parts)
        self.digest = digest_json({**self._but_for_members, "pool": pool.manifest.digest})

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._members.names

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer of the resident model. Raises `ValueError` for windows longer than the model's context."""
        from objectives.scoring.scorer import Scorer  # loads torch

        order = segments(self.table, self._settings.early_stopping.order_seed)
        precision, compiled = self._settings.precision, self._settings.compiled
        return Scorer(self._stacked.model, self.table, segments=order, precision=precision, compiled=compiled)

    @cached_property
    def _stacked(self) -> StackedPool:
        return loaded(self._members)

    @cached_property
    def _rule(self) -> MergeRule:
        from objectives.losses.fisher import ready  # loads torch

        return ready(self._settings.rule, self._pool, self._stacked)

    def foundation(self, mixture: Mixture) -> str | None:
        """Digest everything that decides the value of one mixture: not the members of weight zero.

        None for a rule that gives them merge weights. Another K may change the last digits, as another order of sums.
        """
        if not self._settings.rule.used_members_only:
            return None
        members = self._pool.manifest.members
        support = self._pool.unit_mixture(mixture.over(self.partitions)).support
        used = {name: [members[name].weights_digest, members[name].config_digest] for name in support}
        seed = self._pool.manifest.seed
        start = [seed.weights_digest, seed.config_digest]
        return digest_json({**self._but_for_members, "seed": start, "members": used, "mixture": mixture.digest})

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture by one merge and one pass over the held-out windows."""
        started = time.perf_counter()
        self._stacked.merge(self._merge_weights(mixture))
        return self._evaluation(mixture, self.scorer.score(), started)

    def each(self, mixtures: Sequence[Mixture]) -> Iterator[Evaluation]:
        """Evaluate mixtures; one matrix product merges a few of them."""
        for start in range(0, len(mixtures), MERGES_AT_ONCE):
            started = time.perf_counter()
            some = mixtures[start : start + MERGES_AT_ONCE]
            merges = self._stacked.merge_each(np.stack([self._merge_weights(mixture) for mixture in some]))
            for mixture, _ in zip(some, merges, strict=True):
                yield self._evaluation(mixture, self.scorer.score(), started)
                started = time.perf_counter()

    def challenge(self, mixture: Mixture, incumbent: Evaluation) -> Evaluation:
        """Evaluate a mixture; stop early once its windows show that the incumbent stays ahead.

        Raises `ValueError` for an incumbent without windows.
        """
        if incumbent.windows is None:
            raise ValueError("the incumbent was not evaluated window by window; evaluate it again")
        started = time.perf_counter()
        challenge = Challenge(self.target, self.table, self.table.together(incumbent.windows))
        self._stacked.merge(self._merge_weights(mixture))
        read = np.empty(0, dtype=np.int64)
        nats = np.full(len(self.table.domain), np.nan)
        for rows, part in self.scorer.score_by_segment():
            read, nats[rows] = np.concatenate([read, rows]), part
            if len(read) == len(nats) or not np.isfinite(part).all():
                continue
            estimate = challenge.estimate(read, nats[read])
            if estimate.above(challenge.value, self._settings.early_stopping.confidence):
                return self._stopped(mixture, estimate, read, started)
        return self._evaluation(mixture, nats, started)

    def gradient(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture with its gradient by one merge, one forward and one backward pass."""
        started = time.perf_counter()
        p = mixture.over(self.partitions).array
        weights = self._rule.weights(p)
        self._stacked.merge(weights)
        gradients = self._stacked.gradients()
        by_weight = self._stacked.weight_gradient if weights.ndim == 1 else self._stacked.row_gradient
        nats, pulled = self.scorer.score_with_jacobian(gradients, lambda: self._rule.pullback(p, by_weight()))
        sizes = self.target.sizes(self.table.losses(nats))
        order = [self.partitions.index(name) for name in mixture.names]
        return self._evaluation(mixture, nats, started, (pulled / sizes[:, None])[:, order])

    def _merge_weights(self, mixture: Mixture) -> Floats:
        return self._rule.weights(mixture.over(self.partitions).array)

    def _evaluation(self, mixture: Mixture, nats: Floats, started: float, jacobian: Floats | None = None) -> Evaluation:
        losses = self.table.losses(nats)
        gradient, by_domain = None, None
        if jacobian is not None:
            gradient = tuple((self.target.slopes(losses) @ jacobian).tolist())
            by_domain = dict(zip(self.target.domains, map(tuple, jacobian.tolist()), strict=True))
        return Evaluation(
            mixture,
            value=self.target.value(losses),
            values=self.target.values(losses),
            violation=max([0.0, *self.target.violations(losses).values()]),
            standard_error=self.target.standard_error(losses),
            domains=losses,
            kind="merged",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=self.scorer.tokens,
            gradient=gradient,
            jacobian=by_domain,
            windows=self.table.by_domain(nats),
        )

    def _stopped(self, mixture: Mixture, estimate: Estimate, read: Rows, started: float) -> Evaluation:
        return Evaluation(
            mixture,
            value=estimate.value,
            values=(estimate.value,),
            standard_error=estimate.standard_error,
            domains={},
            kind="merged",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=int(self.table.tokens[read].sum()),
            stopped_early=True,
            unread=self.table.tokens_but_for(read),
        )


def value_parts(
    kind: str, pool: Pool, stacked: StackedPool | Unloaded, target: Goal, split: Split, *, settings: dict[str, object]
) -> dict[str, object]:
    """Return everything that decides a value besides the pool's weights, in JSON types."""
    summaries = pool.manifest.corpus.search if split == "search" else pool.manifest.corpus.test
    return {
        "kind": kind,
        "settings": settings,
        "held_out": {name: summaries[name].digest for name in target.domains if name in summaries},
        "target": target.digest_parts,
        "dtype": str(stacked.dtype),
        **({"groups": {name: list(units) for name, units in pool.groups.items()}} if pool.groups else {}),
    }
