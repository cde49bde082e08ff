"""Integrated gradients from the seed to a merge: contributions summing to the whole gain.

theta(a) = theta_0 + a sum_k c_k tau_k, with the mixture's merge weights c and task vectors tau_k = theta_k - theta_0.
Partition k contributes -c_k times the integral over a in [0, 1] of <grad L(theta(a)), tau_k>; the contributions sum to
L(theta_0) - L(theta(1)) (Sundararajan, Taly and Yan 2017, arXiv 1703.01365; the Aumann-Shapley value).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.scoring.scorer import Scorer
from pool.files.digests import digest_json
from pool.mixture import Mixture
from studies.assessment.ablation.contributions import Contributions
from studies.assessment.ablation.evidence import DomainEvidence, merged_evaluation
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.opened.proxy import Proxy

FIRST_POINTS, MOST_POINTS = 4, 32
"""Gauss-Legendre points, each a forward and a backward pass; doubled until the sum is right."""
Shards = Sequence[torch.Tensor]
"""A model's values (P,), a tensor for each shard."""
TOLERANCE = 0.01
"""Most error of the contributions' sum in any column, as a share of the largest gain."""


def integrated_gradients(bench: Workbench, evidence: DomainEvidence, mixture: Mixture) -> Contributions:
    """Return contributions (K, C) on the path from the seed to a merge; remembered like a merge."""
    names = bench.proxy.stacked.names
    objective = RememberedObjective(SeedPath(bench.proxy, evidence), bench.database.evaluations)
    assert objective.gradient is not None
    found = objective.gradient(mixture.over(names))
    assert found.gradient is not None and found.jacobian is not None
    slopes = np.array([found.gradient, *(found.jacobian[name] for name in evidence.domains)])
    weights = bench.proxy.merge_weights(mixture)
    shares = weights if weights.ndim == 1 else np.ones(len(names))  # slopes by rows are weighed already
    return Contributions((-slopes * shares).T[[names.index(name) for name in mixture.names]])


@dataclass(frozen=True)
class _Path:
    """The line from the seed by `moved` to a merge by weights (K,), or (K, R) by rows; values (P,) in shards."""

    scorer: Scorer
    seed: Shards
    moved: Shards
    weights: Floats


class SeedPath:
    """The loss of a merge; its gradient is the mean of d L / d c_k on the straight line from the seed."""

    challenge = foundation = None

    def __init__(self, proxy: Proxy, evidence: DomainEvidence) -> None:
        self._proxy = proxy
        self._evidence = evidence
        described = {name: proxy.pool.corpus.held_out[evidence.split][name].digest for name in evidence.domains}
        settings: dict[str, object] = {**proxy.settings.digest_parts, **proxy.stacked.digest_parts}
        self.digest = digest_json(
            {
                "kind": "seed path",
                "quadrature": [FIRST_POINTS, MOST_POINTS, TOLERANCE],
                "pool": proxy.pool.manifest.digest,
                "held_out": described,
                "goal": evidence.goal.digest_parts,
                "settings": settings,
            }
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._proxy.stacked.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        return self._evaluation(mixture, None, time.perf_counter())

    def gradient(self, mixture: Mixture) -> Evaluation:
        started = time.perf_counter()
        stacked, evidence = self._proxy.stacked, self._evidence
        self._proxy.make_resident(None)
        seed = [flat.clone() for flat in stacked.flats]
        self._proxy.make_resident(mixture)
        moved = [flat - before for flat, before in zip(stacked.flats, seed, strict=True)]
        scorer = Scorer(stacked.model, evidence.table, precision=self._proxy.settings.precision)
        weights = self._proxy.merge_weights(mixture)
        shares = weights if weights.ndim == 1 else np.ones(len(stacked.names))
        gained = evidence.values(None) - evidence.values(mixture)
        path = _Path(scorer, seed, moved, weights)
        points = FIRST_POINTS
        slopes = self._integral(path, points)
        while points < MOST_POINTS and _off(slopes, shares, gained) > TOLERANCE:
            points *= 2
            slopes = self._integral(path, points)
        return self._evaluation(mixture, slopes, started)

    def _integral(self, path: _Path, points: int) -> Floats:
        places, shares = np.polynomial.legendre.leggauss(points)
        slopes = np.zeros((len(self._evidence.goals), len(self.partitions)))
        for place, share in zip((places + 1) / 2, shares / 2, strict=True):
            both = zip(path.seed, path.moved, strict=True)
            self._proxy.stacked.take(*(torch.add(one, other, alpha=float(place)) for one, other in both))
            slopes += share * self._slopes(path)
        return slopes

    def _slopes(self, path: _Path) -> Floats:
        """Return <grad L, tau_k> of the resident model in every column (C, K); those by rows are weighed already."""
        stacked, evidence = self._proxy.stacked, self._evidence
        gradients = stacked.gradients()

        def pull() -> Floats:
            if path.weights.ndim == 1:
                both = zip(path.seed, gradients, strict=True)
                return stacked.weight_gradient() - sum(float(torch.dot(one, gradient)) for one, gradient in both)
            by_rows = stacked.row_gradient() - stacked.by_rows.added(path.seed[0] * gradients[0])
            summed: Floats = (path.weights * by_rows).sum(axis=1)
            return summed

        nats, partials = path.scorer.score_with_jacobian(gradients, pull)
        losses = evidence.table.losses(nats)
        by_domain = dict(zip(evidence.domains, partials, strict=True))
        rows = [(goal, np.stack([by_domain[name] for name in goal.domains])) for goal in evidence.goals]
        return np.stack([(goal.slopes(losses) / goal.sizes(losses)) @ jacobian for goal, jacobian in rows])

    def _evaluation(self, mixture: Mixture, slopes: Floats | None, started: float) -> Evaluation:
        evidence = self._evidence
        nats = evidence.nats(mixture)
        found = merged_evaluation(mixture, evidence.goal, evidence.table, nats, digest=self.digest, started=started)
        if slopes is None:
            return found
        rows = [tuple(row) for row in slopes.tolist()]
        return replace(found, gradient=rows[0], jacobian=dict(zip(evidence.domains, rows[1:], strict=True)))


def _off(slopes: Floats, weights: Floats, gained: Floats) -> float:
    """Return the error of the contributions' sum, as a share of the largest gain."""
    return float(np.abs(-slopes @ weights - gained).max() / max(np.abs(gained).max(), 1e-12))
