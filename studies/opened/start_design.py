"""From a study file to the mixtures evaluated first, by name, and to the prior the search stays near."""

from collections.abc import Container

import optuna

from pool.errors import ConfigError
from pool.mixture import Mixture
from search.designs import unimax
from search.space import CappedSimplex
from search.trials import best_trial, completed_trials
from studies.database.database import Database
from studies.opened.basis import Basis
from studies.opened.identity import recorded_space
from studies.opened.space import check_partitions, training_budget
from studies.study_file.study_file import StudyFile


def start_mixtures(
    config: StudyFile, basis: Basis, space: CappedSimplex, database: Database, *, known: Container[str]
) -> dict[str, Mixture]:
    """Name the mixtures the study file wants evaluated first, in its order; another study's best comes last.

    The other study is not asked again for a mixture whose name is `known`: it may have gone on, or away.
    """
    found: dict[str, Mixture] = {}
    for choice in config.search.start:
        found |= _named(choice, config, basis, space)
    other = config.search.start_from
    if other and best_of(other) not in known:
        found[best_of(other)] = _best_mixture(other, basis, database)
    return found


def best_of(study: str) -> str:
    """Name another study's best mixture in a start design."""
    return f"best-of:{study}"


def prior_of(config: StudyFile, basis: Basis) -> Mixture:
    """Return the prior: that of the study file, else proportional to tokens. To be asked after `check_prior`."""
    return Mixture.of(config.search.prior).over(basis.names) if config.search.prior else basis.proportional()


def check_prior(config: StudyFile, basis: Basis, space: CappedSimplex) -> None:
    """Raise `ConfigError` for a prior over other partitions, that is no mixture, or that makes the penalty infinite."""
    if not config.search.prior and not config.search.kl:
        return  # none is asked for, and a table has no token counts to take one from
    check_partitions("search.prior", config.search.prior, basis)
    try:
        prior = prior_of(config, basis)
    except ValueError as error:
        raise ConfigError(f"[search.prior] {error}") from None
    missing = [name for name in space.allowed if prior.as_dict()[name] == 0]
    if config.search.kl > 0 and missing:
        raise ConfigError(
            f"[search.prior] the weight of {missing[0]!r} is 0, so the divergence of any mixture that uses it is "
            "infinite: give it a weight above 0, or put it under [space] exclude"
        )


def _named(choice: str, config: StudyFile, basis: Basis, space: CappedSimplex) -> dict[str, Mixture]:
    if choice == "vertices":
        return {f"vertex:{name}": Mixture.vertex(basis.names, name) for name in space.allowed}
    if choice == "uniform":
        return {choice: Mixture.uniform(basis.names)}
    if choice == "proportional":
        return {choice: basis.proportional()}
    if choice == "prior":
        return {choice: prior_of(config, basis)}
    return {choice: unimax(basis.tokens, training_budget(config, basis), config.space.max_epochs or 1.0)}


def _best_mixture(other: str, basis: Basis, database: Database) -> Mixture:
    where = f"[search] start_from: study {other!r}"
    try:
        study = optuna.load_study(storage=database.optuna, study_name=other)
    except KeyError:
        raise ConfigError(f"{where} is not in {database.address}; run `mixscout search` on its file first") from None
    space = recorded_space(study)
    if space is None:
        raise ConfigError(f"{where} was not made by Mixscout; name one that was")
    different = sorted(set(space.names) ^ set(basis.names))
    if different:
        raise ConfigError(
            f"{where} is over other partitions than this {basis.kind} ({', '.join(different)} only in one of them); "
            "name a study over the same partitions"
        )
    trial = best_trial(completed_trials(study))
    if trial is None:
        raise ConfigError(f"{where} has no evaluated mixture yet; run `mixscout search` on its file first")
    return space.mixture_of(trial).over(basis.names)
