"""`TrainedLoss`, the ground truth: the held-out loss of a model trained on the mixture."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from objectives.evaluation import Evaluation
from objectives.held_out import Precision
from objectives.losses.merged_loss import Unloaded, loaded, make_room, value_parts
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.config.recipe import Recipe
from pool.corpus.corpus import Split
from pool.files.digests import digest_json
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.parts.store import Pool

if TYPE_CHECKING:
    from objectives.merging.merge import StackedPool
    from objectives.scoring.scorer import Scorer


class TrainedLoss:
    """Trains the seed on a mixture by a recipe, else by the members' own, and scores the result.

    A mixture is trained once, and its checkpoint stays in the pool's folder. A vertex is the member itself. Members on
    a GPU leave it while a model is trained there.
    """

    gradient = challenge = foundation = None

    def __init__(
        self,
        pool: Pool,
        stacked: StackedPool | Unloaded,
        target: Goal,
        split: Split,
        *,
        precision: Precision = "float32",
        recipe: Recipe | None = None,
    ) -> None:
        self._pool = pool
        self._recipe = recipe or pool.config.recipe
        self._members = stacked
        self._precision = precision
        self.target = target
        self.table = WindowTable.of(pool.corpus.held_out[split], target.domains)
        settings: dict[str, object] = {"recipe": self._recipe.digest, "precision": precision}
        parts = value_parts("trained", pool, stacked, target, split, settings=settings)
        self.digest = digest_json({**parts, "pool": pool.manifest.digest})

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._pool.names

    @cached_property
    def _stacked(self) -> StackedPool:
        return loaded(self._members)

    @cached_property
    def _scorer(self) -> Scorer:
        from objectives.scoring.scorer import Scorer  # loads torch, as the job of training does

        return Scorer(self._stacked.model, self.table, precision=self._precision)

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Train a mixture, unless its checkpoint exists, and score it."""
        from pool.building.job import is_trained, train_to_mixture

        started = time.perf_counter()
        run = TruthRun(mixture.over(self.partitions), self._recipe)
        if not is_trained(self._pool, run):
            make_room(self._members)
        folder = train_to_mixture(self._pool, run.mixture, run.recipe)
        self._stacked.load(folder, f"the model in {folder}")
        nats = self._scorer.score()
        domains = self.table.losses(nats)
        return Evaluation(
            mixture,
            value=self.target.value(domains),
            values=self.target.values(domains),
            violation=max([0.0, *self.target.violations(domains).values()]),
            standard_error=self.target.standard_error(domains),
            domains=domains,
            kind="trained",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=self._scorer.tokens,
            windows=self.table.by_domain(nats),
        )
