"""Trainings to be spent: formulas with a biased proxy, and the truths of a study replayed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import optuna

from objectives.evaluation import Evaluation, Objective
from objectives.held_out import Floats
from objectives.stand_ins.biased_proxy import BiasedProxy, BiasKind
from objectives.stand_ins.problems import Placement, problem
from pool.errors import ConfigError
from pool.mixture import Mixture
from search.loop import Search, advance
from search.space import CappedSimplex, Weights
from search.strategies.refine import Merges
from search.strategies.registry import STRATEGIES
from search.strategies.surrogate import evidence_of
from search.surrogates.surrogate import Observations
from search.trials import completed_trials

if TYPE_CHECKING:
    from studies.opened.on_pool import Workbench

MERGES = 24
"""Merges of the search before any training."""
LEFT_OUT = 1 / 4
"""Share of a study's truths that a repeat does without."""
LEAST_TRUTHS = 8


@dataclass(frozen=True, eq=False)
class TruthProblem:
    """Trainings to be spent.

    truth: the value of a mixture really trained.
    merges: what merges say of every mixture; its rows, where only some may be trained.
    regret: of mixtures (N, K), nats.
    """

    truth: Objective
    merges: Merges
    regret: Callable[[Weights], Floats]

    @property
    def space(self) -> CappedSimplex:
        return self.merges.space

    @property
    def rows(self) -> Weights | None:
        return self.merges.rows

    @cached_property
    def first(self) -> Weights:
        """The mixture (K,) of lowest proxy."""
        if self.rows is not None:
            return np.asarray(self.rows[int(np.argmin(self.merges.proxies(self.rows)))])
        return np.asarray(self.merges.observations.weights[int(np.argmin(self.merges.observations.values))])

    def trained(self, weights: Weights) -> Floats:
        """Return the truths (N,) of mixtures (N, K)."""
        return np.array([self.truth(Mixture.from_array(self.space.names, row)).value for row in weights])


@dataclass(frozen=True)
class TruthCase:
    """Formulas of a kind; `noise_nats` is the deviation of a training."""

    bias: BiasKind
    partitions: int
    noise_nats: float

    @property
    def name(self) -> str:
        return f"{self.bias}-{self.partitions}"

    @property
    def trained(self) -> str:
        """What is trained, whatever the proxy."""
        return str(self.partitions)

    def make(self, seed: int) -> TruthProblem:
        """Make a problem of a seed, and search its proxy."""
        placement: Placement = "face" if self.partitions >= 8 else "inside"
        exact = problem("exponential", placement, self.partitions, seed=seed)
        proxy = BiasedProxy(exact, self.bias, seed=seed)
        space = CappedSimplex.of(exact.partitions)
        study = optuna.create_study()
        start = {"uniform": Mixture.uniform(space.names)}
        advance(study, Search(proxy, space, STRATEGIES["auto"], seed, start=start), MERGES)
        observations = evidence_of(completed_trials(study), space)
        assert observations is not None, "a search has merges"
        none = np.empty((0, len(space.names))), np.empty(0)
        merges = Merges(observations, lambda mixture: proxy(mixture).value, space, none)
        noisy = exact.with_noise(self.noise_nats, seed=seed)
        return TruthProblem(noisy, merges, lambda weights: exact.exact(weights) - exact.best_value)


@dataclass(frozen=True, eq=False)
class _Recalled:
    """Values (N,) of mixtures (N, K) known by heart, as an objective and as a merge."""

    partitions: tuple[str, ...]
    known: Observations
    gradient = challenge = foundation = None
    digest = "recalled"

    def exact(self, weights: Weights) -> Floats:
        nearest = np.abs(weights[:, None] - self.known.weights).max(axis=-1).argmin(axis=1)
        return np.asarray(self.known.values[nearest])

    def value(self, mixture: Mixture) -> float:
        return float(self.exact(mixture.over(self.partitions).array[None])[0])

    def __call__(self, mixture: Mixture) -> Evaluation:
        return Evaluation(
            mixture,
            value=self.value(mixture),
            standard_error=0.0,
            domains={},
            kind="trained",
            objective_digest=self.digest,
            seconds=0.0,
            tokens_read=0,
        )


@dataclass(frozen=True, eq=False)
class Replay:
    """A study's truths, to be trained again in any order.

    rows: (N, K), with `truths` (N,). merges: of the study.
    """

    name: str
    rows: Weights
    truths: Floats
    merges: Merges

    @classmethod
    def of(cls, bench: Workbench) -> Replay:
        """Collect the truths of a study. Raises `ConfigError` for too few, and the errors of `refine`."""
        from studies.assessment.fidelity.refine import Refinement, RefineRequest

        refinement = Refinement.of(bench, RefineRequest(truths=1))
        known, merges = refinement.known_truths(), refinement.merges
        if len(known) < LEAST_TRUTHS:
            raise ConfigError(
                f"study {bench.config.name!r} has {len(known)} truths, and a replay takes {LEAST_TRUTHS}: train more "
                f"by `mixscout fidelity STUDY.toml --mixtures {LEAST_TRUTHS}`"
            )
        rows, truths = np.stack([mixture.array for mixture, _ in known]), np.array([value for _, value in known])
        proxies = merges.proxies(rows)  # in this process, so that repeats in others need no pool
        merged = Observations.of_values(rows, proxies)
        recalled = _Recalled(merges.space.names, merged).value
        apart = replace(merges, observations=merges.observations.plus(merged), merge=recalled)
        return cls(bench.config.name, rows, truths, apart)

    @property
    def trained(self) -> str:
        return self.name

    @property
    def partitions(self) -> int:
        return len(self.merges.space.names)

    def make(self, seed: int) -> TruthProblem:
        """Leave a quarter of the truths out, at random."""
        count = len(self.rows)
        kept = np.sort(np.random.default_rng([seed, count]).permutation(count)[: count - math.floor(LEFT_OUT * count)])
        rows, truths = self.rows[kept], self.truths[kept]
        members, known = self.merges.vertices
        every = Observations.of_values(np.vstack([rows, members]), np.concatenate([truths, known]))
        recalled = _Recalled(self.merges.space.names, every)
        lowest = float(every.values.min())
        return TruthProblem(recalled, replace(self.merges, rows=rows), lambda asked: recalled.exact(asked) - lowest)
