"""The mixture space and the prior of a study file, checked against its basis."""

from collections.abc import Collection, Mapping

from pool.errors import ConfigError
from pool.mixture import Mixture
from search.space import CappedSimplex
from studies.opened.basis import Basis
from studies.study_file.sections import SpaceConfig


def space_of(wanted: SpaceConfig, basis: Basis) -> CappedSimplex:
    """Make the space: caps by tokens and epochs, floors, fixed and excluded partitions.

    Raises `ConfigError` that names the section and the partition at fault, or the reason that no mixture is feasible.
    """
    sections: dict[str, Collection[str]] = {"caps": wanted.caps, "floors": wanted.floors, "fixed": wanted.fixed}
    for section, names in {**sections, "exclude": wanted.exclude}.items():
        check_partitions(f"space.{section}", names, basis)
    caps = {**_epoch_caps(wanted, basis), **dict.fromkeys(wanted.exclude, 0.0)}
    for name, cap in {**wanted.caps, **wanted.fixed}.items():
        caps[name] = min(caps[name], cap)
    try:
        floors = {**wanted.floors, **wanted.fixed}
        return CappedSimplex.of(basis.names, caps=caps, floors=floors, max_members=wanted.max_members)
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None


def training_budget(wanted: SpaceConfig, basis: Basis) -> int:
    """Return the tokens of the training run that the mixture is for."""
    return wanted.training_budget_tokens or basis.recipe_tokens


def check_partitions(section: str, names: Collection[str], basis: Basis) -> None:
    """Raise `ConfigError` for a name that is no partition."""
    unknown = sorted(set(names) - set(basis.names))
    if unknown:
        known = ", ".join(basis.names)
        raise ConfigError(f"[{section}] {unknown[0]!r} is no partition of the {basis.kind}; it has {known}")


def prior_of(weights: Mapping[str, float], basis: Basis) -> Mixture:
    """Return the prior of a study file; proportional to tokens without weights. Raises `ValueError`."""
    return Mixture.of(weights).over(basis.names) if weights else basis.proportional()


def check_prior(weights: Mapping[str, float], kl: float, basis: Basis, space: CappedSimplex) -> None:
    """Raise `ConfigError` for a prior over other partitions, one that is no mixture, and an infinite penalty."""
    if not weights and not kl:
        return  # no prior is asked for, and a swarm has no token counts to take one from
    check_partitions("search.prior", weights, basis)
    try:
        prior = prior_of(weights, basis)
    except ValueError as error:
        raise ConfigError(f"[search.prior] {error}") from None
    missing = [name for name in space.allowed if prior.as_dict()[name] == 0]
    if kl > 0 and missing:
        raise ConfigError(
            f"[search.prior] the weight of {missing[0]!r} is 0, so the divergence of any mixture that uses it is "
            "infinite: give it a weight above 0, or put it under [space] exclude"
        )


def _epoch_caps(wanted: SpaceConfig, basis: Basis) -> dict[str, float]:
    if wanted.max_epochs is None:
        return dict.fromkeys(basis.names, 1.0)
    budget = training_budget(wanted, basis)
    return {name: min(1.0, basis.tokens[name] * wanted.max_epochs / budget) for name in basis.names}
