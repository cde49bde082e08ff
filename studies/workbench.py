"""Everything a verb needs, opened and checked once: pool, stacked members, space, objectives, study."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna

from objectives.early_stopping import EarlyStopping
from objectives.evaluation import Objective
from objectives.merge import StackedPool
from objectives.merged_loss import MergedLoss, ProxySettings
from objectives.regularised import regularised
from objectives.rules import make_rule
from objectives.scoring import Scorer
from objectives.target import Goal, measures_of
from objectives.trained_loss import TrainedLoss
from objectives.window_table import WindowTable
from pool.config import read_pool_file
from pool.corpus import SPLITS, Split
from pool.errors import StudyError
from pool.mixture import Mixture
from pool.store import Pool, open_pool
from search.gate import Gate, GateRule
from search.loop import Search
from search.space import CappedSimplex
from search.stop import ExpectedImprovement, StopRules
from search.surrogates.conformal import ConformalSurrogate
from search.surrogates.gaussian_process import GaussianProcessSurrogate
from search.trials import START
from studies.address import Address, address_of
from studies.bounds import space_of
from studies.config import GateConfig, StudyFile
from studies.database import Database, open_database
from studies.evaluations import RememberedObjective, remembered
from studies.goal import SeedMeasures, check_goal, goal_of
from studies.identity import Identity, claim_identity, identity_of
from studies.start_design import check_prior, prior_of, start_mixtures


@dataclass(frozen=True)
class Workbench:
    """An opened study file. Objectives remember what they evaluated.

    `objective` is what the study minimises, without a penalty: `search_loss`, or downstream scores. `target` and
    `test_target` are the goal on the two splits; they differ where it is relative to the seed.
    """

    config: StudyFile
    pool: Pool
    stacked: StackedPool
    target: Goal
    test_target: Goal
    space: CappedSimplex
    database: Database
    proxy: ProxySettings
    objective: RememberedObjective
    search_loss: Objective
    test_loss: Objective
    trained_loss: Objective

    def search(self) -> Search:
        """Put together what the study is advanced with. Raises `ConfigError` for a study to start from that is none."""
        wanted = self.config.search
        return Search(
            regularised(self.objective, prior_of(self.config, self.pool), wanted.kl),
            self.space,
            wanted.strategy_found,
            wanted.seed,
            None if self.several else make_gate(self.config.gate, seed=wanted.seed),
            start_mixtures(self.config, self.pool, self.space, self.database, known=self._started()),
            stop_early=self.config.early_stopping.enabled and not self.several,
            stop=self._stop_rules(),
            retries=wanted.retries,
        )

    @property
    def several(self) -> bool:
        """Whether there are several objectives: then nothing is pruned and nothing stopped early."""
        return bool(self.config.targets)

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

    def new_or_known_study(self, *, accept: bool = False) -> optuna.Study:
        """Open the study, making it where there is none; `accept` its changed course. Raises `StudyMismatchError`."""
        study = optuna.create_study(
            storage=self.database.optuna,
            study_name=self.config.name,
            directions=["minimize"] * max(1, len(self.config.targets)),
            load_if_exists=True,
        )
        claim_identity(study, self._identity(), accept=accept)
        return study

    def known_study(self) -> optuna.Study:
        """Open a study that has been started. Raises `StudyError` when there is none, and `StudyMismatchError`."""
        try:
            study = optuna.load_study(storage=self.database.optuna, study_name=self.config.name)
        except KeyError:
            raise no_study(self.config, self.database.address) from None
        claim_identity(study, self._identity())
        return study

    def _started(self) -> set[str]:
        """Name the mixtures of the start design that the study has already."""
        if self.config.name not in optuna.get_all_study_names(self.database.optuna):
            return set()
        study = optuna.load_study(storage=self.database.optuna, study_name=self.config.name)
        return {str(trial.user_attrs[START]) for trial in study.get_trials(deepcopy=False) if START in trial.user_attrs}

    def _stop_rules(self) -> StopRules:
        wanted, seed = self.config.search.stop, self.config.search.seed
        rule: ExpectedImprovement | None = None
        if wanted.min_expected_improvement is not None:
            surrogate, evidence = ConformalSurrogate(GaussianProcessSurrogate()), self.config.gate.min_evidence
            rule = ExpectedImprovement(wanted.min_expected_improvement, surrogate, self.space, evidence, seed)
        return StopRules(wanted.seconds, wanted.tokens, wanted.patience, wanted.min_improvement, rule)

    def _identity(self) -> Identity:
        return identity_of(self.config, self.pool, self.space, self.proxy, self.objective)


@contextmanager
def workbench(config: StudyFile, *, must_exist: bool = False) -> Iterator[Workbench]:
    """Open all that a study file names, checking it on the way; with `must_exist`, make no database.

    Raises a `MixscoutError` of the thing at fault.
    """
    pool = open_pool(read_pool_file(config.pool))
    check_goal(config, pool)
    space = space_of(config, pool)
    check_prior(config, pool, space)
    config.search.strategy_found.make(space, config.search.seed)  # a sampler of the user's own may be none
    address = address_of(config.database, pool.config.root / "mixscout.db")
    if must_exist and address.file and not address.file.exists():
        raise no_study(config, address)
    wait, lease = config.database_timeout_seconds, config.lease_seconds
    with open_database(address, timeout_seconds=wait, lease_seconds=lease) as database:
        stacked = StackedPool(pool.member_folders)
        target, test_target = (goal_of(config, pool, _seed_measures(config, pool, stacked, split)) for split in SPLITS)
        proxy = _proxy(config)
        search_loss = remembered(MergedLoss(pool, stacked, target, "search", settings=proxy), database.evaluations)
        test_loss = MergedLoss(pool, stacked, test_target, "test", settings=proxy)
        trained_loss = TrainedLoss(pool, stacked, test_target, "test", precision=proxy.precision)
        yield Workbench(
            config,
            pool,
            stacked,
            target,
            test_target,
            space,
            database,
            proxy,
            objective=_objective(config, pool, stacked, proxy, database) or search_loss,
            search_loss=search_loss,
            test_loss=remembered(test_loss, database.evaluations),
            trained_loss=remembered(trained_loss, database.evaluations),
        )


def no_study(config: StudyFile, address: Address) -> StudyError:
    """Make the error for a study that was not started."""
    return StudyError(f"no study {config.name!r} in {address}; run `mixscout search` on its file first")


def make_gate(config: GateConfig, *, seed: int) -> Gate | None:
    """Make the gate that a study file asks for."""
    if not config.enabled:
        return None
    rule = GateRule(config.threshold, config.audit_rate, config.min_evidence, config.patience)
    return Gate(rule, GaussianProcessSurrogate(), seed=seed)


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
    return remembered(DownstreamError(pool, stacked, tasks, rule=proxy.rule), database.evaluations)
