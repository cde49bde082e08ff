"""The goal of a study file: one target or several, partly relative to the seed's losses."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from objectives.aggregates import Aggregate
from objectives.stand_ins.metric_names import looks_like, named_loss, named_score
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.target import Direction, Goal, Target
from pool.errors import ConfigError
from studies.opened.runs import learnt_at_scales, read_tables
from studies.opened.space import Basis, with_way_out
from studies.study_file.sections import TargetConfig
from studies.study_file.study_file import StudyFile, naming_file

SeedMeasures = Callable[[tuple[str, ...]], Mapping[str, float]]
"""Scores the seed on some domains, in the study's measure."""


def targets_of(config: StudyFile, basis: Basis) -> dict[str, Target]:
    """Make the targets by name, without the parts relative to the seed.

    Raises `ConfigError` with the section and the domain or weight at fault.
    """
    wanted = config.objective
    sections: dict[str, Iterable[str]] = {"target": config.target.weights, "objective": wanted.domains}
    sections |= {f"targets.{name}": table.weights for name, table in config.targets.items()}
    for section, domains in {**sections, "constraints": config.constraints}.items():
        basis.check_domains(section, domains)
    if len(config.targets) == 1:
        raise ConfigError("[targets] several targets are at least two; give a single one as [target]")
    if wanted.domains:
        aggregate = wanted.aggregate or "macro"
        plain = "worst" if aggregate == "worst-excess" else aggregate
        direction = wanted.direction or "minimise"
        return {"objective": Target.over(wanted.domains, plain, measure=wanted.measure, direction=direction)}
    if not config.targets:
        return {"target": _weighted(config, "target", config.target)}
    return {name: _weighted(config, f"targets.{name}", table) for name, table in config.targets.items()}


def check_table(config: StudyFile) -> None:
    """Check the goal of a study on a table against its metrics and runs, without fitting. Raises `ConfigError`."""
    if config.table is not None:
        tables = read_tables(config)
        with naming_file(config):
            goal = goal_on_table(config, basis_of(config.table, tables.target), tables.target)
        learnt_at_scales(config, replace(tables, unseen=None), goal)


def basis_of(folder: Path, table: SwarmTable) -> Basis:
    """Return the basis of a study on a table."""
    return Basis("table", folder.parent, table.names, tuple(table.metrics), tokens={}, recipe_tokens=0)


def goal_on_table(config: StudyFile, basis: Basis, table: SwarmTable) -> Goal:
    """Make the goal of a study on a table. Raises `ConfigError`."""
    for asked in (config.target.weights, config.objective.domains, *(one.weights for one in config.targets.values())):
        table.check_metrics(asked)
    targets = targets_of(config, basis)
    check_directions(config, table)
    return goal_of(targets, {}, config.objective.aggregate, lambda domains: {})


def check_directions(config: StudyFile, table: SwarmTable) -> None:
    """Raise `ConfigError` for a metric that looks like a score without a direction, and for a score beside a loss."""
    wanted = config.objective
    sections: dict[str, tuple[Iterable[str], Direction | None]] = {"objective": (wanted.domains, wanted.direction)}
    sections["target"] = config.target.weights, config.direction_given(config.target)
    for name, target in config.targets.items():
        sections[f"targets.{name}"] = target.weights, config.direction_given(target)
    for section, (metrics, direction) in sections.items():
        _check_one_way(section, metrics, table)
        for metric in metrics if direction is None else ():
            _check_no_score(section, metric, table)


def _check_one_way(section: str, metrics: Iterable[str], table: SwarmTable) -> None:
    columns = {metric: table.columns.get(metric, metric) for metric in metrics}
    score = next((metric for metric, column in columns.items() if named_score(column)), None)
    loss = next((metric for metric, column in columns.items() if named_loss(column)), None)
    if score and loss:
        raise ConfigError(
            f"[{section}] weighs {score!r}, by its name a score, with {loss!r}, by its name a loss, so one of them "
            "gets worse: give each a [targets.NAME] with a direction of its own"
        )


def _check_no_score(section: str, metric: str, table: SwarmTable) -> None:
    values = table.metrics[metric]
    looks = looks_like(table.columns.get(metric, metric), values)
    if looks not in ("score", "share"):
        return
    found = f"{float(values.min()):.4g} to {float(values.max()):.4g}"
    like = f"looks like a score ({found})" if looks == "score" else f"is from {found}, as accuracies are"
    raise ConfigError(
        f'[{section}] {metric!r} {like}: write direction = "maximise" there if more of it is better, or '
        'direction = "minimise" if less is'
    )


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
    try:
        return Goal(complete)
    except ValueError as error:
        raise ConfigError(f"[targets] {error}") from None


def _weighted(config: StudyFile, section: str, table: TargetConfig) -> Target:
    direction = config.direction_given(table) or "minimise"
    try:
        return Target(table.weights, measure=config.objective.measure, direction=direction)
    except ValueError as error:
        raise ConfigError(f"[{section}] {with_way_out(error)}") from None
