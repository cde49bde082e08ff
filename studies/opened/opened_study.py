"""An opened study, on a pool or on a swarm, and its record in the database."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import optuna

from objectives.target import Goal
from pool.corpus.corpus import Split
from pool.errors import StorageError, StudyError
from pool.mixture import Mixture
from search.optuna_private import reading_rows
from search.space import CappedSimplex
from search.trials import START, best_trial, completed_trials, count_trials
from studies.database.address import Address, is_in_environment, said_by
from studies.database.database import Database, copy_study, open_database
from studies.database.kept_file import private_copy
from studies.database.remembered import RememberedObjective
from studies.opened.identity import Identity, claim_identity, claim_versions
from studies.opened.space import Basis, check_prior, space_of
from studies.study_file.search_sections import TextPrior
from studies.study_file.study_file import StudyFile


@dataclass(frozen=True, kw_only=True)
class OpenedStudy(ABC):
    """An opened study file.

    goals: the goal by split; one relative to the seed differs between splits.
    objective: the search split's goal, without a penalty, remembered.
    """

    config: StudyFile
    basis: Basis
    space: CappedSimplex
    goals: Mapping[Split, Goal]
    database: Database
    objective: RememberedObjective

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """The record of a study, fixed at its start."""

    @property
    def members_held(self) -> str | None:
        """The place of a pool's members and the reason, when the program chose it."""
        return None

    @property
    def merges_hold(self) -> str | None:
        """What a pool's merges hold in memory."""
        return None

    @property
    def device(self) -> str | None:
        """The place where a pool's models compute."""
        return None

    @property
    def target(self) -> Goal:
        """The goal on the search split."""
        return self.goals["search"]

    @property
    def root(self) -> Path:
        """The folder that holds the reports."""
        return self.basis.root

    @property
    def several(self) -> bool:
        """Whether the study has several objectives."""
        return bool(self.config.targets)

    def new_or_known_study(self, *, accept: bool = False) -> optuna.Study:
        """Open or make the study; `accept` a changed course or versions. Raises `StudyMismatchError`."""
        study = optuna.create_study(
            storage=self.database.optuna,
            study_name=self.config.name,
            directions=[
                "maximize" if one.direction == "maximise" else "minimize" for one in self.target.targets.values()
            ],
            load_if_exists=True,
        )
        claim_identity(study, self.identity, accept=accept)
        claim_versions(study, accept=accept)
        return study

    def known_study(self) -> optuna.Study:
        """Open a started study. Raises `StudyError` without one, and `StudyMismatchError`."""
        try:
            study = optuna.load_study(storage=self.database.optuna, study_name=self.config.name)
        except KeyError:
            raise _no_study(self.config, self.database.address) from None
        claim_identity(study, self.identity)
        return study


def checked_space(config: StudyFile, basis: Basis) -> CappedSimplex:
    """Make the space, and check prior and strategy against it. Raises `ConfigError`."""
    space = space_of(config.space, basis)
    check_prior(config.search.prior, config.search.kl, basis, space)
    config.search.strategy_found.make(space, config.search.seed)  # a user's own strategy may be broken
    return space


@contextmanager
def study_database(
    config: StudyFile, address: Address, *, must_exist: bool, writes: bool, private: Path | None = None
) -> Iterator[Database]:
    """Open a study's database; with `must_exist`, make none; without `writes`, one to read serves too.

    With `private`, open a copy in that folder, and leave the database as it is. Raises `StudyError` and `StorageError`.
    """
    if must_exist and address.file and not address.file.exists():
        raise _no_study(config, address)
    wait, lease = config.database_timeout_seconds, config.lease_seconds
    place = address if private is None else private_copy(address, private, wait)
    try:
        with open_database(place, timeout_seconds=wait, lease_seconds=lease, writes=writes) as database:
            if private is not None and address.file is None:
                with open_database(address, timeout_seconds=wait, lease_seconds=lease) as server:
                    copy_study(config.name, server, database)
            yield database
    except (StorageError, StudyError) as error:
        told = (str(part).replace(str(place), str(address)) for part in error.args)
        error.args = tuple(part.replace("STUDY.toml", config.typed) for part in told)
        raise


PRIOR = "mixscout:prior"
"""Attribute of a study with the weights of the prior that its file names, as the search began with them."""
REFINED = "mixscout:refined"
"""Attribute of a study with the answer of `refine`, as JSON."""
ROBUSTNESS = "mixscout:robustness"
"""Attribute of a study with the differences that `robustness` found for a best mixture, as JSON."""

MODELS = "mixscout:models"
"""Attribute of a study with what was trained for it beside truths: folders within the pool's, by verb."""


def note_models(bench: OpenedStudy, verb: str, folders: Iterable[Path]) -> None:
    """Note models that a verb trains for a study, by their folders in the pool's; other studies may share them."""
    study = bench.known_study()
    known = study.user_attrs.get(MODELS, {})
    listed = list(dict.fromkeys([*known.get(verb, ()), *map(str, folders)]))
    if listed != known.get(verb):
        study.set_user_attr(MODELS, {**known, verb: listed})


def refinement_of(name: str) -> str:
    """Name the study of the mixtures that `refine` trains for a study."""
    return f"{name}:refine"


def best_mixture(bench: OpenedStudy, study: optuna.Study) -> Mixture:
    """Return the answer of `refine`, or the best mixture of the search. Raises `StudyError`."""
    refined = study.user_attrs.get(REFINED)
    return Mixture.of(refined["mixture"]).over(bench.space.names) if refined else searched_mixture(bench, study)


def prior_mixtures(bench: OpenedStudy) -> dict[str, Mixture]:
    """Name the mixtures from text alone that the study began with; none before its search."""
    if bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return {}
    study = optuna.load_study(storage=bench.database.optuna, study_name=bench.config.name)
    started = {str(one.user_attrs.get(START)): one for one in completed_trials(study)}
    found = {name: bench.space.mixture_of(started[name]) for name in get_args(TextPrior) if name in started}
    kept = kept_prior(bench)
    return {str(bench.config.search.prior): kept, **found} if kept else found


def kept_prior(bench: OpenedStudy) -> Mixture | None:
    """Return the prior by name as the study keeps its weights; None for other studies, and before its search."""
    if bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return None
    study = optuna.load_study(storage=bench.database.optuna, study_name=bench.config.name)
    kept = study.user_attrs.get(PRIOR)
    return Mixture.of(kept).over(bench.space.names) if kept else None


def searched_mixture(bench: OpenedStudy, study: optuna.Study) -> Mixture:
    """Return the mixture of the trial with the best value (the first of equals). Raises `StudyError`."""
    trial = best_trial(completed_trials(study))
    if trial is None:
        failures = "; ".join(count_trials(study).failures())
        found = f" ({failures})" if failures else ""
        raise StudyError(
            f"study {study.study_name!r} has no evaluated mixture yet{found}; run `mixscout search "
            f"{bench.config.typed}`"
        )
    with reading_rows():
        return bench.space.mixture_of(trial)


def _no_study(config: StudyFile, address: Address) -> StudyError:
    named = f", the database of {said_by()}" if is_in_environment() else ""
    return StudyError(f"no study {config.name!r} in {address}{named}; run `mixscout search {config.typed}` first")
