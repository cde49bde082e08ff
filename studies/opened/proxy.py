"""`Proxy`: the members of a pool, stacked, with the rule and the settings by which a study merges and scores them."""

from collections.abc import Mapping
from dataclasses import dataclass

from objectives.held_out import Floats
from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.merging.members.holding import Holding
from objectives.merging.merge import StackedPool
from objectives.merging.rules import make_rule
from objectives.scoring.paired import EarlyStopping
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from pool.parts.store import Pool
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective
from studies.study_file.sections import EarlyStoppingConfig, ObjectiveConfig


@dataclass(frozen=True)
class Proxy:
    """Merges of a pool's members, and their loss.

    pool: with members of the age asked for, by partitions or by groups.
    """

    pool: Pool
    stacked: StackedPool
    settings: ProxySettings

    def make_resident(self, mixture: Mixture | None) -> None:
        """Make the resident model a mixture's merge, or the seed for None."""
        if mixture is None:
            self.stacked.load(self.pool.folder / "seed", "the seed")
        else:
            self.stacked.merge(self.settings.rule.weights(mixture.over(self.stacked.names).array))

    def loss(self, goal: Goal, split: Split, settings: ProxySettings | None = None) -> MergedLoss:
        """Return the loss of the merge, by other settings where given."""
        return MergedLoss(self.pool, self.stacked, goal, split, settings=settings or self.settings)

    def remembered(self, goals: Mapping[Split, Goal], store: EvaluationStore) -> dict[Split, RememberedObjective]:
        """Return the loss of the merge by split, remembered in a store."""
        return {split: RememberedObjective(self.loss(goal, split), store) for split, goal in goals.items()}

    def score_resident(self, table: WindowTable) -> Floats:
        """Score the resident model: nats of every window (W,)."""
        return Scorer(self.stacked.model, table, precision=self.settings.precision).score()


def proxy_of(pool: Pool, wanted: ObjectiveConfig, stopping: EarlyStoppingConfig, *, merges: bool = True) -> Proxy:
    """Hold the members, by the options of a study file; without `merges` they stay on disk."""
    rule = make_rule(wanted.rule, wanted.exponent)
    settings = ProxySettings(rule, wanted.precision, wanted.compiled, EarlyStopping(stopping.error_rate))
    return Proxy(pool, _stack(pool, wanted.holding, merges=merges), settings)


def _stack(pool: Pool, holding: Holding, *, merges: bool) -> StackedPool:
    if not merges:
        return StackedPool.of_seed(pool.names, pool.folder / "seed", holding=holding)
    return StackedPool(pool.merged_folders, holding=holding, folder=pool.folder)
