"""`MergedLoss`: the proxy. A mixture is worth the held-out loss of its members' merge.

That the weights of a data mixture may serve as the weights of a parameter merge is the hypothesis under test; the
named rule that turns the one into the other is part of the objective and of its digest.
"""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from objectives.evaluation import Evaluation
from objectives.held_out import HeldOutLoss
from objectives.merge import StackedPool
from objectives.rules import Identity, MergeRule
from objectives.scoring import Scorer
from objectives.target import Target
from pool.corpus import Split
from pool.fingerprint import digest_json
from pool.mixture import Mixture
from pool.store import Pool


class MergedLoss:
    """Merges the pool's members by a mixture and scores the merge on one split of the target's domains.

    Deterministic on one machine with one number of threads. Raises `ValueError` for a target domain that the
    pool has no held-out text of.
    """

    def __init__(
        self, pool: Pool, stacked: StackedPool, target: Target, split: Split, *, rule: MergeRule | None = None
    ) -> None:
        self._stacked = stacked
        self.rule = rule or Identity()
        self._scorer = Scorer(stacked.model, pool.corpus.held_out[split], target)
        self.target = target
        self.digest = objective_digest("merged", pool, stacked, target, split, settings=self.rule.digest_parts)

    @property
    def partitions(self) -> tuple[str, ...]:
        """The pool's partitions."""
        return self._stacked.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture: one merge, one pass over the held-out windows."""
        started = time.perf_counter()
        self._merge(mixture)
        return self._evaluation(mixture, self._scorer.score(), started, None)

    def gradient(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture and d value / d weight (K,): one merge, one forward and one backward pass."""
        started = time.perf_counter()
        p = self._merge(mixture)
        domains = self._scorer.score_with_gradient(self._stacked.flat_gradient)
        pulled = self.rule.pullback(p, self._stacked.weight_gradient())
        gradient = dict(zip(self.partitions, pulled, strict=True))
        ordered = np.array([gradient[name] for name in mixture.names])
        return self._evaluation(mixture, domains, started, tuple(float(partial) for partial in ordered))

    def _merge(self, mixture: Mixture) -> npt.NDArray[np.float64]:
        p = mixture.over(self.partitions).array
        self._stacked.merge(self.rule.weights(p))
        return p

    def _evaluation(
        self,
        mixture: Mixture,
        domains: Mapping[str, HeldOutLoss],
        started: float,
        gradient: tuple[float, ...] | None,
    ) -> Evaluation:
        return Evaluation(
            mixture,
            value=self.target.loss_nats(domains),
            standard_error=self.target.standard_error(domains),
            domains=domains,
            kind="merged",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=self._scorer.tokens,
            gradient=gradient,
        )


def objective_digest(
    kind: str, pool: Pool, stacked: StackedPool, target: Target, split: Split, *, settings: dict[str, object]
) -> str:
    """Digest what decides a value: the pool's weights, the held-out text, the target, the dtype, and `settings`."""
    summaries = pool.manifest.corpus.search if split == "search" else pool.manifest.corpus.test
    return digest_json(
        {
            "kind": kind,
            "settings": settings,
            "pool": pool.manifest.digest,
            "held_out": {name: summaries[name].digest for name in target.weights},
            "target": dict(target.weights),
            "dtype": str(stacked.dtype),
        }
    )
