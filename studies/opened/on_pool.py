"""A study on a pool, opened and checked once: pool, stacked members, the loss on both splits, merged and trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from objectives.evaluation import Objective
from objectives.merged_loss import MergedLoss, ProxySettings
from objectives.merging.merge import StackedPool, UnmergedPool
from objectives.merging.rules import make_rule
from objectives.scoring.early_stopping import EarlyStopping
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target.target import Goal, measures_of
from objectives.trained_loss import TrainedLoss
from pool.config.pool_file import read_pool_file
from pool.corpus.corpus import SPLITS, Split
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool
from studies.database.address import address_of
from studies.database.database import Database
from studies.database.remembered import RememberedObjective
from studies.opened.basis import basis_of_pool
from studies.opened.goal import SeedMeasures, goal_of
from studies.opened.identity import identity_of
from studies.opened.opened_study import OpenedStudy, checked_space, study_database
from studies.study_file.study_file import StudyFile


@dataclass(frozen=True, kw_only=True)
class Workbench(OpenedStudy):
    """An opened study file on a pool. Objectives remember what they evaluated.

    `objective` is `search_loss`, or downstream scores. `target` and `test_target` are the goal on the two splits; they
    differ where it is relative to the seed.
    """

    pool: Pool
    stacked: StackedPool
    test_target: Goal
    proxy: ProxySettings
    search_loss: Objective
    test_loss: Objective
    trained_loss: Objective

    def goal(self, split: Split) -> Goal:
        """Return the goal on a split."""
        return self.target if split == "search" else self.test_target

    def table(self, split: Split) -> WindowTable:
        """Return the windows of the goal's domains on a split."""
        return WindowTable.of(self.pool.corpus.held_out[split], self.goal(split).domains)

    def make_resident(self, mixture: Mixture | None) -> None:
        """Make the resident model a mixture's merge, or the seed for None."""
        if mixture is None:
            self.stacked.load(self.pool.folder / "seed", "the seed")
        else:
            self.stacked.merge(self.proxy.rule.weights(mixture.over(self.stacked.names).array))


@contextmanager
def workbench(config: StudyFile, *, must_exist: bool = False, only_recalls: bool = False) -> Iterator[Workbench]:
    """Open all that a study file on a pool names, checking it on the way; with `must_exist`, make no database.

    With `only_recalls` the members stay on disk, and what would take a merge or a training run raises
    `NotRememberedError`. Raises a `MixscoutError` of the thing at fault; `ConfigError` for a study on a table.
    """
    if config.pool is None:
        raise ConfigError(
            f"study {config.name!r} is on a table of models already trained ({config.table}), and this needs a pool to "
            "merge from: `search` and `best` work on a table; give a study with pool = FILE for the rest"
        )
    pool = open_pool(read_pool_file(config.pool))
    if config.objective.member_age is not None:
        pool = pool.at_age(config.objective.member_age)
    if config.space.units == "macro":
        pool = pool.by_groups()
    basis = basis_of_pool(pool)
    space = checked_space(config, basis)
    address = address_of(config.database, pool.config.root / "mixscout.db")
    with study_database(config, address, must_exist=must_exist) as database:
        if only_recalls:
            database = replace(database, evaluations=database.evaluations.to_recall_from())
        stacked = _unmerged(config, pool) if only_recalls else _stacked(config, pool)
        target, test_target = (goal_of(config, _seed_measures(config, pool, stacked, split)) for split in SPLITS)
        proxy = _proxy(config)
        search_loss = RememberedObjective(
            MergedLoss(pool, stacked, target, "search", settings=proxy), database.evaluations
        )
        test_loss = MergedLoss(pool, stacked, test_target, "test", settings=proxy)
        trained_loss = TrainedLoss(pool, stacked, test_target, "test", precision=proxy.precision)
        objective = _objective(config, pool, stacked, proxy, database) or search_loss
        yield Workbench(
            config=config,
            root=pool.config.root,
            basis=basis,
            space=space,
            database=database,
            target=target,
            objective=objective,
            identity=identity_of(config, pool, space, proxy, objective),
            pool=pool,
            stacked=stacked,
            members_held=str(stacked.choice) if config.objective.held == "auto" else None,
            test_target=test_target,
            proxy=proxy,
            search_loss=search_loss,
            test_loss=RememberedObjective(test_loss, database.evaluations),
            trained_loss=RememberedObjective(trained_loss, database.evaluations),
        )


def _unmerged(config: StudyFile, pool: Pool) -> StackedPool:
    return UnmergedPool(pool.names, pool.folder / "seed", holding=config.objective.holding)


def _stacked(config: StudyFile, pool: Pool) -> StackedPool:
    return StackedPool(pool.merged_folders, holding=config.objective.holding, folder=pool.folder)


def _seed_measures(config: StudyFile, pool: Pool, stacked: StackedPool, split: Split) -> SeedMeasures:
    def measures(domains: tuple[str, ...]) -> dict[str, float]:
        stacked.load(pool.folder / "seed", "the seed")
        table = WindowTable.of(pool.corpus.held_out[split], domains)
        losses = table.losses(Scorer(stacked.model, table, precision=config.objective.precision).score())
        return dict(zip(domains, measures_of(losses, domains, config.objective.measure).tolist(), strict=True))

    return measures


def _proxy(config: StudyFile) -> ProxySettings:
    rule = make_rule(config.objective.rule, config.objective.exponent)
    stopping = EarlyStopping(config.early_stopping.error_rate)
    return ProxySettings(rule, config.objective.precision, config.objective.compiled, stopping)


def _objective(
    config: StudyFile, pool: Pool, stacked: StackedPool, proxy: ProxySettings, database: Database
) -> RememberedObjective | None:
    """Make the objective other than the search loss that the study file asks for, if any."""
    if config.downstream is None:
        return None
    from objectives.downstream import DownstreamError, Tasks  # an extra

    wanted = config.downstream
    tasks = Tasks(wanted.tasks, wanted.task_folder, wanted.metric, wanted.shots, wanted.documents)
    return RememberedObjective(DownstreamError(pool, stacked, tasks, rule=proxy.rule), database.evaluations)
