"""A table of sixteen trained models in three partitions, by a formula with a known optimum, and a study on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from objectives.stand_ins.swarm_table import SwarmTable, write_swarm

NAMES = ("code", "docs", "prose")
BEST_FOR_TALES = (0.2, 0.0, 0.8)

STUDY = """
name = "small"
table = "swarm"

[target]
tales = 1.0

[search]
strategy = "auto"
merges = 12

[gate]
enabled = false
"""


def small_table(runs: int = 16) -> SwarmTable:
    """Losses 3 + |w - optimum|^2, the optimum of `manuals` being docs alone."""
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=runs)
    optima = {"tales": BEST_FOR_TALES, "manuals": (0.0, 1.0, 0.0)}
    metrics = {name: 3 + ((weights - np.array(at)) ** 2).sum(axis=1) for name, at in optima.items()}
    return SwarmTable(tuple(f"r{run}" for run in range(runs)), NAMES, weights, metrics)


def write_small_study(folder: Path, *, runs: int = 16) -> Path:
    """Write table and study file, and return the latter's path."""
    write_swarm(small_table(runs), folder / "swarm")
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


def write_scaled_study(folder: Path, *, runs: int = 4) -> Path:
    """Write the table at scale 70M, `runs` of its mixtures at 410M, and a study of the latter; return its path."""
    small = small_table()
    write_swarm(small, folder / "swarm" / "70M")
    few = small.take(range(runs))
    shifted = {name: 0.8 * values - 0.2 * few.weights[:, 0] for name, values in few.metrics.items()}
    write_swarm(replace(few, metrics=shifted), folder / "swarm" / "410M")
    (folder / "study.toml").write_text(STUDY.replace("[target]", '[scales]\ntarget = "410M"\n\n[target]'))
    return folder / "study.toml"
