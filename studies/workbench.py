"""Everything a verb needs, opened and checked once: pool, stacked members, space, objectives, study."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna

from objectives.evaluation import Objective
from objectives.merge import StackedPool
from objectives.merged_loss import MergedLoss
from objectives.rules import MergeRule, make_rule
from objectives.target import Target
from objectives.trained_loss import TrainedLoss
from pool.config import read_pool_file
from pool.errors import ConfigError, StudyError
from pool.mixture import Mixture
from pool.store import Pool, open_pool
from search.gate import Gate, GateRule
from search.loop import Search
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.surrogates.gaussian_process import GaussianProcessSurrogate
from studies.config import GateConfig, StudyFile
from studies.database import Database, open_database
from studies.evaluations import remembered
from studies.identity import claim_identity, identity_of


@dataclass(frozen=True)
class Workbench:
    """An opened study file. Objectives remember what they evaluated."""

    config: StudyFile
    pool: Pool
    stacked: StackedPool
    target: Target
    space: CappedSimplex
    database: Database
    rule: MergeRule
    search_loss: Objective
    test_loss: Objective
    trained_loss: Objective

    def search(self) -> Search:
        """Put together what the study is advanced with."""
        return Search(
            self.search_loss,
            self.space,
            STRATEGIES[self.config.search.strategy],
            self.config.search.seed,
            make_gate(self.config.gate, seed=self.config.search.seed),
            self.start_mixtures(),
        )

    def start_mixtures(self) -> dict[str, Mixture]:
        """Name the mixtures the study file wants evaluated first, in its order."""
        names = self.pool.names
        known: dict[str, dict[str, Mixture]] = {
            "uniform": {"uniform": Mixture.uniform(names)},
            "proportional": {"proportional": self.pool.proportional()},
            "vertices": {f"vertex:{name}": Mixture.vertex(names, name) for name in names},
        }
        return {name: mixture for choice in self.config.search.start for name, mixture in known[choice].items()}

    def new_or_known_study(self) -> optuna.Study:
        """Open the study, making it where there is none. Raises `StudyMismatchError`."""
        study = optuna.create_study(
            storage=self.database.optuna, study_name=self.config.name, direction="minimize", load_if_exists=True
        )
        claim_identity(study, identity_of(self.config, self.pool, self.space, self.rule))
        return study

    def known_study(self) -> optuna.Study:
        """Open a study that has been started. Raises `StudyError` when there is none, and `StudyMismatchError`."""
        try:
            study = optuna.load_study(storage=self.database.optuna, study_name=self.config.name)
        except KeyError:
            raise no_study(self.config, self.database.path) from None
        claim_identity(study, identity_of(self.config, self.pool, self.space, self.rule))
        return study


@contextmanager
def workbench(config: StudyFile, *, must_exist: bool = False) -> Iterator[Workbench]:
    """Open all that a study file names, checking it on the way; with `must_exist`, make no database.

    Raises a `MixscoutError` of the thing at fault.
    """
    pool = open_pool(read_pool_file(config.pool))
    target = _target(config, pool)
    space = _space(config, pool)
    path = config.database or pool.config.root / "mixscout.db"
    if must_exist and not path.exists():
        raise no_study(config, path)
    with open_database(path, timeout_seconds=config.database_timeout_seconds) as database:
        stacked = StackedPool(pool.member_folders)
        rule = make_rule(config.objective.rule, config.objective.exponent)
        search_loss = MergedLoss(pool, stacked, target, "search", rule=rule)
        test_loss = MergedLoss(pool, stacked, target, "test", rule=rule)
        yield Workbench(
            config,
            pool,
            stacked,
            target,
            space,
            database,
            rule,
            search_loss=remembered(search_loss, database.evaluations),
            test_loss=remembered(test_loss, database.evaluations),
            trained_loss=remembered(TrainedLoss(pool, stacked, target, "test"), database.evaluations),
        )


def no_study(config: StudyFile, path: Path) -> StudyError:
    """Make the error for a study that was not started."""
    return StudyError(f"no study {config.name!r} in {path}; run `mixscout search` on its file first")


def make_gate(config: GateConfig, *, seed: int) -> Gate | None:
    """Make the gate that a study file asks for."""
    if not config.enabled:
        return None
    rule = GateRule(config.threshold, config.audit_rate, config.min_evidence, config.patience)
    return Gate(rule, GaussianProcessSurrogate(), seed=seed)


def _target(config: StudyFile, pool: Pool) -> Target:
    known = pool.manifest.corpus.search
    unknown = sorted(set(config.target) - set(known))
    if unknown:
        raise ConfigError(f"[target] {unknown[0]!r} is no held-out domain of the pool; it has {', '.join(known)}")
    try:
        return Target(config.target)
    except ValueError as error:
        raise ConfigError(f"[target] {error}") from None


def _space(config: StudyFile, pool: Pool) -> CappedSimplex:
    unknown = sorted(set(config.space.caps) - set(pool.names))
    if unknown:
        raise ConfigError(f"[space.caps] {unknown[0]!r} is no partition of the pool; it has {', '.join(pool.names)}")
    caps = dict.fromkeys(pool.names, 1.0)
    if config.space.max_epochs is not None:
        budget = config.space.training_budget_tokens or pool.config.recipe.tokens
        caps = {name: min(1.0, pool.tokens[name] * config.space.max_epochs / budget) for name in pool.names}
    caps = {name: min(cap, config.space.caps.get(name, 1.0)) for name, cap in caps.items()}
    try:
        return CappedSimplex.of(pool.names, caps=caps, max_members=config.space.max_members)
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None
