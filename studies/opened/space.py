"""From a study file to the mixture space: caps by tokens and epochs, floors, fixed and excluded partitions."""

from collections.abc import Collection

from pool.errors import ConfigError
from search.space import CappedSimplex
from studies.opened.basis import Basis
from studies.study_file.study_file import StudyFile


def space_of(config: StudyFile, basis: Basis) -> CappedSimplex:
    """Make the space. Raises `ConfigError` that names the table and the partition, or what makes it infeasible."""
    wanted = config.space
    tables: dict[str, Collection[str]] = {"caps": wanted.caps, "floors": wanted.floors, "fixed": wanted.fixed}
    for table, names in {**tables, "exclude": wanted.exclude}.items():
        check_partitions(f"space.{table}", names, basis)
    caps = {**_epoch_caps(config, basis), **dict.fromkeys(wanted.exclude, 0.0)}
    for name, cap in {**wanted.caps, **wanted.fixed}.items():
        caps[name] = min(caps[name], cap)
    try:
        floors = {**wanted.floors, **wanted.fixed}
        return CappedSimplex.of(basis.names, caps=caps, floors=floors, max_members=wanted.max_members)
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None


def training_budget(config: StudyFile, basis: Basis) -> int:
    """Tokens of the training run that the mixture is for."""
    return config.space.training_budget_tokens or basis.recipe_tokens


def check_partitions(table: str, names: Collection[str], basis: Basis) -> None:
    """Raise `ConfigError` for a name that is no partition."""
    unknown = sorted(set(names) - set(basis.names))
    if unknown:
        known = ", ".join(basis.names)
        raise ConfigError(f"[{table}] {unknown[0]!r} is no partition of the {basis.kind}; it has {known}")


def _epoch_caps(config: StudyFile, basis: Basis) -> dict[str, float]:
    if config.space.max_epochs is None:
        return dict.fromkeys(basis.names, 1.0)
    budget = training_budget(config, basis)
    return {name: min(1.0, basis.tokens[name] * config.space.max_epochs / budget) for name in basis.names}
