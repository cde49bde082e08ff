"""Ground truths measured elsewhere: a table of weights and one of metrics, matched to the study by name."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from objectives.agreement.noise import NoiseFloor
from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable, read_swarm
from pool.corpus.corpus import SPLITS, Split
from pool.errors import ConfigError
from pool.mixture import Mixture
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths


def import_truths(instruments: Instruments, path: Path) -> Truths:
    """Read truths from a folder with ratios.csv and metrics.csv, or from its ratios.csv.

    Metrics are losses in the study's measure, and stand for both splits. Runs of one mixture count once, with their
    mean, and measure the noise. Single partitions are left out, as in a design. Raises `ConfigError` that names the
    partition, the domain or the run at fault.
    """
    table = read_swarm(path, path.with_name("metrics.csv")) if path.is_file() else read_swarm(path)
    bench = instruments.bench
    _check(table, instruments, path)
    groups = _groups(table, bench.pool.names)
    if not groups:
        raise ConfigError(f"{path}: every run is of a single partition, where the merge is the member; add mixtures")
    domains = [name for name in instruments.target.domains if name in table.metrics]
    by_name = {name: [table.metrics[name][rows] for rows in groups.values()] for name in domains}
    means = {name: np.array([group.mean() for group in by_name[name]]) for name in domains}
    readings: dict[Split, Readings] = {}
    noise: dict[Split, dict[str, NoiseFloor]] = {}
    for split in SPLITS:  # targets relative to the seed differ between splits
        by_name[VALUE] = _values(instruments, split, table.metrics, list(groups.values()))
        readings[split] = {VALUE: np.array([group.mean() for group in by_name[VALUE]]), **means}
        floors = {name: NoiseFloor.of(by_name[name]) for name in by_name}
        noise[split] = {name: floor for name, floor in floors.items() if floor}
    mixtures = {
        table.runs[rows[0]]: Mixture.from_array(table.names, table.weights[rows[0]]).over(bench.pool.names)
        for rows in groups.values()
    }
    ignored = tuple(name for name in table.metrics if name not in instruments.target.domains)
    return Truths(mixtures, readings, noise, str(path), ignored)


def _check(table: SwarmTable, instruments: Instruments, path: Path) -> None:
    names = instruments.bench.pool.names
    unknown = [name for name in table.names if name not in names]
    if unknown:
        raise ConfigError(
            f"{path}: {unknown[0]!r} is no partition of the pool, which has {', '.join(names)}; truths are matched "
            "by name"
        )
    missing = [name for name in instruments.bench.target.domains if name not in table.metrics]
    if missing:
        raise ConfigError(
            f"{path}: there is no metric for the study's held-out domain {missing[0]!r}; the table has "
            f"{', '.join(table.metrics)}"
        )


def _groups(table: SwarmTable, names: tuple[str, ...]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for row, weights in enumerate(table.weights):
        mixture = Mixture.from_array(table.names, weights)
        if len(mixture.support) > 1:
            groups.setdefault(mixture.over(names).digest, []).append(row)
    return groups


def _values(
    instruments: Instruments, split: Split, metrics: Mapping[str, Floats], groups: list[list[int]]
) -> list[Floats]:
    """Return the study's value of every run, by group; domains are sized as the pool's held-out text is."""
    goal, table = instruments.bench.goals[split], instruments.bench.table(split)
    sizes = goal.sizes(table.losses(np.zeros(len(table.domain))))
    rows = np.array([metrics[name] for name in goal.domains]).T
    values = np.array([goal.value_of(row, sizes) for row in rows])
    return [values[group] for group in groups]
