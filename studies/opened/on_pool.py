"""A study on a pool, opened and checked: the pool, its stacked members, goals and losses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.merging.members.holding import Holding
from objectives.merging.merge import StackedPool
from objectives.merging.rules import MergeRule, make_rule
from objectives.scoring.paired import EarlyStopping
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal, Target, measures_of
from pool.config.pool_file import read_pool_file
from pool.corpus.corpus import SPLITS, Split
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool
from studies.database.address import address_of
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective
from studies.opened.goal import goal_of, targets_of
from studies.opened.identity import Identity, identity_of
from studies.opened.opened_study import OpenedStudy, checked_space, study_database
from studies.opened.space import Basis
from studies.study_file.sections import DownstreamConfig, EarlyStoppingConfig, ObjectiveConfig
from studies.study_file.study_file import StudyFile


@dataclass(frozen=True, kw_only=True)
class Workbench(OpenedStudy):
    """An opened study file on a pool.

    pool: with members of the age asked for, by partitions or by groups.
    losses: remembered loss of the merge, by split; `objective` is the search split's, or downstream scores.
    """

    pool: Pool
    stacked: StackedPool
    proxy: ProxySettings
    losses: Mapping[Split, RememberedObjective]

    @property
    def identity(self) -> Identity:
        return identity_of(self.config, self.pool, self.space, self.proxy, self.objective)

    @property
    def members_held(self) -> str | None:
        return str(self.stacked.choice) if self.config.objective.held == "auto" else None

    def table(self, split: Split) -> WindowTable:
        """Return the windows of the goal's domains on a split."""
        return WindowTable.of(self.pool.corpus.held_out[split], self.goals[split].domains)

    def make_resident(self, mixture: Mixture | None) -> None:
        """Make the resident model a mixture's merge, or the seed for None."""
        if mixture is None:
            self.stacked.load(self.pool.folder / "seed", "the seed")
        else:
            self.stacked.merge(self.proxy.rule.weights(mixture.over(self.stacked.names).array))


@contextmanager
def workbench(config: StudyFile, *, must_exist: bool = False, only_recalls: bool = False) -> Iterator[Workbench]:
    """Open and check a study file on a pool; with `must_exist`, make no database.

    With `only_recalls` the members stay on disk, and a merge or a training run raises `NotRememberedError`.
    Raises a `MixscoutError` of the thing at fault; `ConfigError` for a study on a table.
    """
    if config.pool is None:
        raise ConfigError(
            f"study {config.name!r} is on a table of models already trained ({config.table}), and this needs a pool to "
            "merge from: `search` and `best` work on a table; give a study with pool = FILE for the rest"
        )
    pool = asked_pool(config.pool, age=config.objective.member_age, by_groups=config.space.units == "macro")
    basis = basis_of(pool)
    targets = targets_of(config, basis)
    space = checked_space(config, basis)
    address = address_of(config.database, basis.root / "mixscout.db")
    with study_database(config, address, must_exist=must_exist) as database:
        if only_recalls:
            database = replace(database, evaluations=database.evaluations.to_recall_from())
        stacked = stack(pool, config.objective.holding, merges=not only_recalls)
        goals = goals_of(targets, config.constraints, pool, stacked, config.objective)
        proxy = proxy_of(config.objective, config.early_stopping)
        losses = {
            split: RememberedObjective(MergedLoss(pool, stacked, goal, split, settings=proxy), database.evaluations)
            for split, goal in goals.items()
        }
        objective = losses["search"]
        if config.downstream:
            objective = downstream_error(config.downstream, pool, stacked, proxy.rule, database.evaluations)
        yield Workbench(
            config=config,
            basis=basis,
            space=space,
            goals=goals,
            database=database,
            objective=objective,
            pool=pool,
            stacked=stacked,
            proxy=proxy,
            losses=losses,
        )


def asked_pool(file: Path, *, age: int | None, by_groups: bool) -> Pool:
    """Open a pool with members of an age in steps (None: as they ended), by partitions or groups."""
    pool = open_pool(read_pool_file(file))
    if age is not None:
        pool = pool.at_age(age)
    return pool.by_groups() if by_groups else pool


def basis_of(pool: Pool) -> Basis:
    recipe, root = pool.config.recipe, pool.config.root
    tokens = {name: pool.tokens[name] for name in pool.names}
    return Basis("pool", root, pool.names, tuple(pool.manifest.corpus.search), tokens, recipe.tokens)


def stack(pool: Pool, holding: Holding, *, merges: bool) -> StackedPool:
    """Hold the members; without `merges` they stay on disk."""
    if not merges:
        return StackedPool.of_seed(pool.names, pool.folder / "seed", holding=holding)
    return StackedPool(pool.merged_folders, holding=holding, folder=pool.folder)


def proxy_of(wanted: ObjectiveConfig, stopping: EarlyStoppingConfig) -> ProxySettings:
    rule = make_rule(wanted.rule, wanted.exponent)
    return ProxySettings(rule, wanted.precision, wanted.compiled, EarlyStopping(stopping.error_rate))


def goals_of(
    targets: Mapping[str, Target],
    constraints: Mapping[str, float],
    pool: Pool,
    stacked: StackedPool,
    wanted: ObjectiveConfig,
) -> dict[Split, Goal]:
    """Make the goal on each split; parts relative to the seed differ."""

    def seed_measures(split: Split, domains: tuple[str, ...]) -> dict[str, float]:
        stacked.load(pool.folder / "seed", "the seed")
        table = WindowTable.of(pool.corpus.held_out[split], domains)
        losses = table.losses(Scorer(stacked.model, table, precision=wanted.precision).score())
        return dict(zip(domains, measures_of(losses, domains, wanted.measure).tolist(), strict=True))

    return {split: goal_of(targets, constraints, wanted.aggregate, partial(seed_measures, split)) for split in SPLITS}


def downstream_error(
    wanted: DownstreamConfig, pool: Pool, stacked: StackedPool, rule: MergeRule, store: EvaluationStore
) -> RememberedObjective:
    """Make the objective of downstream scores. Raises `ConfigError` where its extra is missing."""
    from objectives.losses.downstream import DownstreamError  # an extra
    from objectives.losses.tasks import Tasks

    tasks = Tasks(wanted.tasks, wanted.task_folder, wanted.metric, wanted.shots, wanted.documents)
    return RememberedObjective(DownstreamError(pool, stacked, tasks, rule=rule), store)
