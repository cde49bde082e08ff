"""`Proxy`: the members of a pool, with the rule and the settings by which a study merges and scores them.

Members load, and torch with them, when a merge is first needed. A study whose evaluations are all remembered never
loads them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.losses.merged_loss import MergedLoss, ProxySettings, Unloaded
from objectives.merging.members.holding import Holding, memory_line
from objectives.merging.rules import MergeRule, make_rule
from objectives.scoring.paired import EarlyStopping
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.checkpoints.manifest import WEIGHTS
from pool.corpus.corpus import Split
from pool.files.digests import digest_json
from pool.mixture import Mixture
from pool.parts.store import Pool
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective
from studies.study_file.sections import EarlyStoppingConfig, ObjectiveConfig

if TYPE_CHECKING:
    from objectives.merging.merge import StackedPool


@dataclass(frozen=True)
class Proxy:
    """Merges of a pool's members, and their loss.

    pool: with members of the age asked for, by partitions or by groups.
    merges: whether members may be merged; else they stay on disk, and the seed alone loads.
    """

    pool: Pool
    holding: Holding
    settings: ProxySettings
    merges: bool = True

    @cached_property
    def stacked(self) -> StackedPool:
        """The resident model, and the members, which load at the first merge. Raises `PoolError`."""
        from objectives.merging.merge import StackedPool  # loads torch

        if not self.merges:
            return StackedPool.of_seed(self.pool.names, self.pool.folder / "seed", holding=self.holding)
        return StackedPool(self.pool.merged_folders, holding=self.holding, folder=self.pool.folder, at_once=False)

    @property
    def members(self) -> Unloaded:
        """The members for losses, before they are loaded."""
        return Unloaded(self.pool.names, self.holding, lambda: self.stacked, lambda: vars(self).get("stacked"))

    @property
    def merges_hold(self) -> str:
        """What merges will hold in memory, before members are loaded."""
        by_rows = self.settings.rule.by_rows
        return memory_line(len(self.pool.names), self._model_bytes, self.holding, by_rows=by_rows)

    @property
    def trainings_hold(self) -> str:
        """What each training of a mixture will hold; the members are freed meanwhile."""
        from pool.building.training.train import memory_line as of_training  # loads torch

        config = self.pool.config
        return f"{of_training(config.recipe, self._model_bytes, config.context)}; members are freed meanwhile"

    @property
    def _model_bytes(self) -> int:
        return (self.pool.folder / "seed" / WEIGHTS).stat().st_size

    @property
    def ready_rule(self) -> MergeRule:
        """The merge rule with the Fisher information for which it may ask."""
        from objectives.losses.fisher import ready  # loads torch

        return ready(self.settings.rule, self.pool, self.stacked)

    def merge_weights(self, mixture: Mixture) -> Floats:
        """Return the members' merge weights (K,), or (K, R) by rows, in the order of the pool's names."""
        return self.ready_rule.weights(mixture.over(self.stacked.names).array)

    def make_resident(self, mixture: Mixture | None) -> None:
        """Make the resident model a mixture's merge, or the seed for None."""
        if mixture is None:
            self.stacked.load(self.pool.folder / "seed", "the seed")
        else:
            self.stacked.merge(self.merge_weights(mixture))

    def loss(self, goal: Goal, split: Split, settings: ProxySettings | None = None) -> MergedLoss:
        """Return the loss of the merge, by other settings where given."""
        return MergedLoss(self.pool, self.members, goal, split, settings=settings or self.settings)

    def remembered(self, goals: Mapping[Split, Goal], store: EvaluationStore) -> dict[Split, RememberedObjective]:
        """Return the loss of the merge by split, remembered in a store."""
        return {split: RememberedObjective(self.loss(goal, split), store) for split, goal in goals.items()}

    def score_resident(self, table: WindowTable) -> Floats:
        """Score the resident model: nats of every window (W,)."""
        from objectives.scoring.scorer import Scorer  # loads torch

        return Scorer(self.stacked.model, table, precision=self.settings.precision).score()

    def known_seed_nats(self, table: WindowTable, split: Split, store: EvaluationStore) -> Floats | None:
        """Recall the nats (W,) of the seed on the windows of a split; None where they are not remembered."""
        found = store.find(self._seed_digest(table, split), self._of_any)
        return None if found is None or found.windows is None else table.together(found.windows)

    def seed_nats(self, table: WindowTable, split: Split, store: EvaluationStore) -> Floats:
        """Recall, or score and remember, the nats (W,) of the seed on the windows of a split."""
        known = self.known_seed_nats(table, split, store)
        if known is not None:
            return known
        started, mixture, digest = time.perf_counter(), self._of_any, self._seed_digest(table, split)
        self.make_resident(None)
        nats = self.score_resident(table)
        if np.isfinite(nats).all() and not store.only_recalls:
            store.keep(_of_seed(table, nats, mixture, digest, seconds=time.perf_counter() - started))
        return nats

    @property
    def _of_any(self) -> Mixture:
        """Some mixture to remember the seed by, as the seed stands for none."""
        return Mixture.uniform(self.pool.names)

    def _seed_digest(self, table: WindowTable, split: Split) -> str:
        """Digest everything that decides the seed's nats; the order of domains may change their last digits."""
        manifest = self.pool.manifest
        summaries = manifest.corpus.search if split == "search" else manifest.corpus.test
        parts = {
            "kind": "seed",
            "seed": [manifest.seed.weights_digest, manifest.seed.config_digest],
            "held_out": [[name, summaries[name].digest] for name in table.domains],
            "precision": self.settings.precision,
        }
        return digest_json(parts)


def _of_seed(table: WindowTable, nats: Floats, mixture: Mixture, digest: str, *, seconds: float) -> Evaluation:
    return Evaluation(
        mixture,
        value=float(nats.sum() / table.tokens.sum()),
        standard_error=float("inf"),
        domains=table.losses(nats),
        kind="seed",
        objective_digest=digest,
        seconds=seconds,
        tokens_read=int(table.tokens.sum()),
        windows=table.by_domain(nats),
    )


def proxy_of(
    pool: Pool,
    wanted: ObjectiveConfig,
    stopping: EarlyStoppingConfig,
    *,
    merges: bool = True,
    packed: Path | None = None,
) -> Proxy:
    """Hold the members, by the options of a study file; without `merges` they stay on disk.

    packed: folder of mapped members, by default the pool's.
    """
    rule = make_rule(wanted.rule, wanted.exponent)
    settings = ProxySettings(rule, wanted.precision, wanted.compiled, EarlyStopping(stopping.error_rate))
    return Proxy(pool, replace(wanted.holding, packed=packed), settings, merges=merges)
