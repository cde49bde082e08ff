"""The goal of a study file: one target or several, with the seed's losses for parts relative to them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from objectives.target import Goal, Target
from pool.errors import ConfigError
from studies.opened.basis import Basis
from studies.study_file.study_file import StudyFile

SeedMeasures = Callable[[tuple[str, ...]], Mapping[str, float]]
"""Scores the seed on some domains, in the study's measure."""


def goal_of(config: StudyFile, seed_measures: SeedMeasures) -> Goal:
    """Make the goal on one split, after `check_goal`; the seed is scored only for constraints and worst-excess."""
    plain = _plain_targets(config)
    relative = list(config.constraints)
    if config.objective.aggregate == "worst-excess":
        relative += config.objective.domains
    seed = seed_measures(tuple(dict.fromkeys(relative))) if relative else {}
    ceilings = {name: seed[name] + allowed for name, allowed in config.constraints.items()}
    complete = {name: replace(target, ceilings=ceilings) for name, target in plain.items()}
    if config.objective.aggregate == "worst-excess":
        only = complete["objective"]
        references = {name: seed[name] for name in only.weights}
        return Goal.of(replace(only, aggregate="worst-excess", references=references))
    return Goal(complete)


def check_goal(config: StudyFile, basis: Basis) -> None:
    """Raise `ConfigError` that names the section and the domain or weight at fault."""
    _check_domains(config, basis)
    _plain_targets(config)


def _plain_targets(config: StudyFile) -> dict[str, Target]:
    """Make the targets by name, without the parts relative to the seed."""
    measure = config.objective.measure
    aggregate = config.objective.aggregate or "macro"
    if config.objective.domains:
        plain = "worst" if aggregate == "worst-excess" else aggregate
        return {"objective": Target.over(config.objective.domains, plain, measure=measure)}
    tables = config.targets or {"target": config.target}
    return {
        name: _weighted(f"targets.{name}" if config.targets else name, table, config) for name, table in tables.items()
    }


def _weighted(where: str, weights: Mapping[str, float], config: StudyFile) -> Target:
    try:
        return Target(weights, measure=config.objective.measure)
    except ValueError as error:
        raise ConfigError(f"[{where}] {error}") from None


def _check_domains(config: StudyFile, basis: Basis) -> None:
    named = {"target": list(config.target), "objective": list(config.objective.domains)}
    named |= {f"targets.{name}": list(weights) for name, weights in config.targets.items()}
    named |= {"constraints": list(config.constraints)}
    for table, domains in named.items():
        unknown = sorted(set(domains) - set(basis.domains))
        if unknown:
            raise ConfigError(
                f"[{table}] {unknown[0]!r} is no {basis.domain_noun} of the {basis.kind}; "
                f"it has {', '.join(basis.domains)}"
            )
    if len(config.targets) == 1:
        raise ConfigError("[targets] several targets are at least two; give a single one as [target]")
