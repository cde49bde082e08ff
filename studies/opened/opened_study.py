"""What every study has once its file is opened and checked, whether it stands on a pool or on a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna

from objectives.evaluation import Objective
from objectives.regularised import regularised
from objectives.target.target import Goal
from pool.errors import StudyError
from pool.mixture import Mixture
from search.gate import Gate, GateRule
from search.loop import Search
from search.space import CappedSimplex
from search.stop import ExpectedImprovement, StopRules
from search.surrogates.automatic import AutomaticSurrogate
from search.surrogates.conformal import ConformalSurrogate
from search.trials import START, best_trial, completed_trials
from studies.database.address import Address
from studies.database.database import Database, open_database
from studies.database.remembered import RememberedObjective
from studies.opened.basis import Basis
from studies.opened.goal import check_goal
from studies.opened.identity import Identity, claim_identity, claim_versions
from studies.opened.space import space_of
from studies.opened.start_design import check_prior, prior_of, start_mixtures
from studies.study_file.study_file import GateConfig, StudyFile


@dataclass(frozen=True, kw_only=True)
class OpenedStudy:
    """An opened study file.

    `objective` is what the study minimises, without a penalty, and remembers what it evaluated; `target` is the goal
    behind it. `identity` is what the study may not change. Reports are written under `root`. `members_held` says
    where a pool's members were put and why, when that was chosen for the user.
    """

    config: StudyFile
    root: Path
    basis: Basis
    space: CappedSimplex
    database: Database
    target: Goal
    objective: RememberedObjective
    identity: Identity
    members_held: str | None = None

    @property
    def several(self) -> bool:
        """Whether there are several objectives: then nothing is stopped early."""
        return bool(self.config.targets)

    def search(self) -> Search:
        """Put together what the study is advanced with. Raises `ConfigError` for a study to start from that is none."""
        wanted = self.config.search
        objective: Objective = self.objective
        if wanted.kl:
            objective = regularised(objective, prior_of(self.config, self.basis), wanted.kl)
        return Search(
            objective,
            self.space,
            wanted.strategy_found,
            wanted.seed,
            make_gate(self.config.gate, seed=wanted.seed),
            start_mixtures(self.config, self.basis, self.space, self.database, known=self._started()),
            several=self.several,
            stop_early=self.config.early_stopping.enabled and not self.several,
            stop=self._stop_rules(),
            retries=wanted.retries,
        )

    def new_or_known_study(self, *, accept: bool = False) -> optuna.Study:
        """Open the study, making it where there is none; `accept` its changed course or versions.

        Raises `StudyMismatchError`.
        """
        study = optuna.create_study(
            storage=self.database.optuna,
            study_name=self.config.name,
            directions=["minimize"] * max(1, len(self.config.targets)),
            load_if_exists=True,
        )
        claim_identity(study, self.identity, accept=accept)
        claim_versions(study, accept=accept)
        return study

    def known_study(self) -> optuna.Study:
        """Open a study that has been started. Raises `StudyError` when there is none, and `StudyMismatchError`."""
        try:
            study = optuna.load_study(storage=self.database.optuna, study_name=self.config.name)
        except KeyError:
            raise no_study(self.config, self.database.address) from None
        claim_identity(study, self.identity)
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
            surrogate, evidence = ConformalSurrogate(AutomaticSurrogate()), self.config.gate.min_evidence
            rule = ExpectedImprovement(wanted.min_expected_improvement, surrogate, self.space, evidence, seed)
        return StopRules(wanted.seconds, wanted.tokens, wanted.patience, wanted.min_improvement, rule)


def checked_space(config: StudyFile, basis: Basis) -> CappedSimplex:
    """Check a study file against what it stands on, and make its space. Raises `ConfigError`."""
    check_goal(config, basis)
    space = space_of(config, basis)
    check_prior(config, basis, space)
    config.search.strategy_found.make(space, config.search.seed)  # a sampler of the user's own may be none
    return space


@contextmanager
def study_database(config: StudyFile, address: Address, *, must_exist: bool) -> Iterator[Database]:
    """Open a study's database; with `must_exist`, make none. Raises `StudyError` and `StorageError`."""
    if must_exist and address.file and not address.file.exists():
        raise no_study(config, address)
    wait, lease = config.database_timeout_seconds, config.lease_seconds
    with open_database(address, timeout_seconds=wait, lease_seconds=lease) as database:
        yield database


def no_study(config: StudyFile, address: Address) -> StudyError:
    """Make the error for a study that was not started."""
    return StudyError(f"no study {config.name!r} in {address}; run `mixscout search` on its file first")


def make_gate(config: GateConfig, *, seed: int) -> Gate | None:
    """Make the gate that a study file asks for."""
    if not config.enabled:
        return None
    return Gate(GateRule(**config.model_dump(exclude={"enabled"})), seed=seed)


def best_mixture(bench: OpenedStudy, study: optuna.Study) -> Mixture:
    """Return the mixture of the trial with the lowest value (the first of equals). Raises `StudyError`."""
    trial = best_trial(completed_trials(study))
    if trial is None:
        raise StudyError(f"study {study.study_name!r} has no evaluated mixture yet; run `mixscout search` on its file")
    return bench.space.mixture_of(trial)
