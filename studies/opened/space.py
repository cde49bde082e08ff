"""The basis of a study, a pool or a swarm, and the space and prior over its partitions."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pool.errors import ConfigError
from pool.mixture import Mixture
from search.space import CappedSimplex
from studies.study_file.search_sections import SpaceConfig

MARGIN = 1.1
"""Largest weight on a swarm, over the largest among its runs: the largest of few draws falls short of an optimum."""


@dataclass(frozen=True)
class Basis:
    """The K partitions of a pool or a swarm, and the E domains for judging mixtures.

    root: folder of both; reports are written under it.
    domains: held-out domains of a pool, metrics of a swarm.
    tokens: tokens by partition; empty for a swarm.
    recipe_tokens: tokens of the training of one member; 0 for a swarm.
    seen: largest weight among a swarm's runs, by partition; empty for a pool.
    """

    kind: Literal["pool", "table"]
    root: Path
    names: tuple[str, ...]
    domains: tuple[str, ...]
    tokens: Mapping[str, int]
    recipe_tokens: int
    seen: Mapping[str, float] = field(default_factory=dict)

    def proportional(self) -> Mixture:
        """Weigh partitions by their tokens."""
        return Mixture.proportional(self.tokens)

    def check_partitions(self, section: str, names: Iterable[str]) -> None:
        """Raise `ConfigError` for an unknown partition in a section."""
        self._check(section, names, self.names, "partition")

    def check_domains(self, section: str, names: Iterable[str]) -> None:
        """Raise `ConfigError` for an unknown domain in a section."""
        self._check(section, names, self.domains, "held-out domain" if self.kind == "pool" else "metric")

    def _check(self, section: str, names: Iterable[str], known: tuple[str, ...], noun: str) -> None:
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ConfigError(f"[{section}] {unknown[0]!r} is no {noun} of the {self.kind}; it has {', '.join(known)}")


def space_of(wanted: SpaceConfig, basis: Basis) -> CappedSimplex:
    """Make the space: caps by tokens and epochs or by a swarm's runs, floors, fixed and excluded partitions.

    Raises `ConfigError` with the section and the partition at fault, or the reason for an empty space.
    """
    sections: dict[str, Collection[str]] = {"caps": wanted.caps, "floors": wanted.floors, "fixed": wanted.fixed}
    for section, names in {**sections, "exclude": wanted.exclude}.items():
        basis.check_partitions(f"space.{section}", names)
    seen = {} if wanted.extrapolate else {name: min(1.0, MARGIN * most) for name, most in basis.seen.items()}
    _check_seen(wanted, seen)
    caps = {**_epoch_caps(wanted, basis), **seen, **dict.fromkeys(wanted.exclude, 0.0)}
    for name, cap in {**wanted.caps, **wanted.fixed}.items():
        caps[name] = min(caps[name], cap)
    try:
        floors = {**wanted.floors, **wanted.fixed}
        return CappedSimplex.of(basis.names, caps=caps, floors=floors, max_members=wanted.max_members)
    except ValueError as error:
        beyond = "; what the runs have is a cap too, unless [space] extrapolate = true" if seen else ""
        raise ConfigError(f"[space] {error}{beyond}") from None


def _check_seen(wanted: SpaceConfig, seen: Mapping[str, float]) -> None:
    """Raise `ConfigError` for a floor or a fixed weight above the largest of a swarm's runs."""
    for section, weights in {"floors": wanted.floors, "fixed": wanted.fixed}.items():
        for name, weight in weights.items():
            if weight > seen.get(name, 1.0):
                raise ConfigError(
                    f"[space.{section}] {name!r}: expected at most {seen[name]:.4g}, the largest weight among the runs "
                    f"and a tenth more, got {weight:.4g}; lower it, or set [space] extrapolate = true"
                )


def training_budget(wanted: SpaceConfig, basis: Basis) -> int:
    """Return the tokens of the mixture's training run."""
    return wanted.training_budget_tokens or basis.recipe_tokens


def prior_of(weights: Mapping[str, float], basis: Basis) -> Mixture:
    """Return the prior with weights of a study file; proportional to tokens without any. Raises `ValueError`."""
    return Mixture.of(weights).over(basis.names) if weights else basis.proportional()


def with_way_out(error: ValueError) -> str:
    """Add to a refusal of weights the key that takes any sum."""
    return f"{error}, or set normalise = true" if "must sum to 1" in str(error) else str(error)


def check_prior(prior: Mapping[str, float] | str, kl: float, basis: Basis, space: CappedSimplex) -> None:
    """Raise `ConfigError` for other partitions, weights of no mixture, and an infinite penalty."""
    if isinstance(prior, str) or (not prior and not kl):
        return  # a prior by name has every partition, and a swarm without a prior has no token counts to take one from
    _check_weights(prior, kl, basis, space)


def _check_weights(weights: Mapping[str, float], kl: float, basis: Basis, space: CappedSimplex) -> None:
    basis.check_partitions("search.prior", weights)
    try:
        prior = prior_of(weights, basis)
    except ValueError as error:
        raise ConfigError(f"[search.prior] {with_way_out(error)}") from None
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
