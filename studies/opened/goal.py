"""The goal of a study file: one target or several, partly relative to the seed's losses."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from objectives.target import Aggregate, Goal, Measure, Target
from pool.errors import ConfigError
from studies.opened.space import Basis, with_way_out
from studies.study_file.study_file import StudyFile

SeedMeasures = Callable[[tuple[str, ...]], Mapping[str, float]]
"""Scores the seed on some domains, in the study's measure."""


def targets_of(config: StudyFile, basis: Basis) -> dict[str, Target]:
    """Make the targets by name, without the parts relative to the seed.

    Raises `ConfigError` with the section and the domain or weight at fault.
    """
    wanted = config.objective
    sections: dict[str, Iterable[str]] = {"target": config.target, "objective": wanted.domains}
    sections |= {f"targets.{name}": weights for name, weights in config.targets.items()}
    for section, domains in {**sections, "constraints": config.constraints}.items():
        basis.check_domains(section, domains)
    if len(config.targets) == 1:
        raise ConfigError("[targets] several targets are at least two; give a single one as [target]")
    if wanted.domains:
        aggregate = wanted.aggregate or "macro"
        plain = "worst" if aggregate == "worst-excess" else aggregate
        return {"objective": Target.over(wanted.domains, plain, measure=wanted.measure)}
    if not config.targets:
        return {"target": _weighted("target", config.target, wanted.measure)}
    return {name: _weighted(f"targets.{name}", weights, wanted.measure) for name, weights in config.targets.items()}


def goal_of(
    targets: Mapping[str, Target],
    constraints: Mapping[str, float],
    aggregate: Aggregate | None,
    seed_measures: SeedMeasures,
) -> Goal:
    """Make the goal on one split of targets; the seed is scored only for constraints and worst-excess."""
    relative = dict.fromkeys(constraints)
    if aggregate == "worst-excess":
        relative |= dict.fromkeys(targets["objective"].weights)
    seed = seed_measures(tuple(relative)) if relative else {}
    ceilings = {name: seed[name] + allowed for name, allowed in constraints.items()}
    complete = {name: replace(target, ceilings=ceilings) for name, target in targets.items()}
    if aggregate == "worst-excess":
        only = complete["objective"]
        references = {name: seed[name] for name in only.weights}
        return Goal.of(replace(only, aggregate="worst-excess", references=references))
    return Goal(complete)


def _weighted(section: str, weights: Mapping[str, float], measure: Measure) -> Target:
    try:
        return Target(weights, measure=measure)
    except ValueError as error:
        raise ConfigError(f"[{section}] {with_way_out(error)}") from None
