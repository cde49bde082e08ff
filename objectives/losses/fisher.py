"""The Fisher information of members, row by row, for merges that weigh rows by it.

Measured once on each member's own text, and kept beside the pool. A file that is missing or damaged is measured again.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from objectives.held_out import Floats
from objectives.merging.rules import FISHER_WINDOWS, Fisher, MergeRule
from pool.config.recipe import Recipe
from pool.engines.devices import one_at_a_time
from pool.files.digests import digest_arrays, digest_json, short
from pool.files.whole import write_bytes
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track

if TYPE_CHECKING:
    from objectives.merging.merge import StackedPool

_VALUES, _DIGEST = "fisher", "digest"


def ready(rule: MergeRule, pool: Pool, stacked: StackedPool) -> MergeRule:
    """Return the rule with the members' Fisher information where the rule needs it; the resident model changes then."""
    if not isinstance(rule, Fisher) or rule.information is not None:
        return rule
    rows = stacked.by_rows
    if rows.information is None:
        with one_at_a_time(f"fisher-{short(pool.manifest.digest)}"):  # of workers that begin together, one measures
            rows.information = row_information(pool, stacked)
    return replace(rule, information=rows.information)


def row_information(pool: Pool, stacked: StackedPool) -> Floats:
    """Return F (K, R), the mean of every row of each member's diagonal Fisher information.

    F of a value is the mean over `FISHER_WINDOWS` windows of its squared gradient, as for the penalty `ewc`. Raises
    `PoolError` for members that cannot be read.
    """
    folder = stacked.holding.packed or pool.folder / "packed"
    paths = {name: folder / f"fisher-{short(_foundation(pool, name))}.safetensors" for name in stacked.names}
    kept = {name: _kept(path, stacked.by_rows.count) for name, path in paths.items()}
    found = {name: values for name, values in kept.items() if values is not None}
    missing = [name for name in stacked.names if name not in found]
    with track("Fisher information of members", len(missing), shown=bool(missing)) as show:
        for done, name in enumerate(missing, start=1):
            found[name] = _measured(pool, stacked, name)
            _keep(paths[name], found[name])
            show(done, name)
    return np.stack([found[name] for name in stacked.names])


def _measured(pool: Pool, stacked: StackedPool, name: str) -> Floats:
    from pool.building.training.inputs import training_windows  # these load torch
    from pool.building.training.seed_penalty import measured_fisher

    vertex = Mixture.vertex(stacked.names, name)
    stacked.merge(vertex.array)
    context = pool.config.context
    recipe = Recipe(tokens=FISHER_WINDOWS * context, batch_windows=1)
    windows = training_windows(pool.corpus.train, pool.unit_mixture(vertex), recipe, context)
    try:
        return stacked.by_rows.means(measured_fisher(stacked.model, windows))
    finally:
        stacked.forget_gradient()


def _foundation(pool: Pool, name: str) -> str:
    """Digest everything that decides the information of a member."""
    manifest, units = pool.manifest, pool.units_of(name)
    members = [[manifest.members[unit].weights_digest, manifest.members[unit].config_digest] for unit in units]
    text = [manifest.corpus.partitions[unit].digest for unit in units]
    return digest_json({"members": members, "text": text, "windows": FISHER_WINDOWS, "context": pool.config.context})


def _kept(path: Path, count: int) -> Floats | None:
    try:
        with safe_open(path, framework="numpy") as file:
            values = file.get_tensor(_VALUES)
            is_whole = (file.metadata() or {}).get(_DIGEST) == digest_arrays([values]) and values.shape == (count,)
    except (OSError, SafetensorError):
        return None
    return np.asarray(values, dtype=np.float64) if is_whole else None


def _keep(path: Path, values: Floats) -> None:
    """Write the file whole; a pool that is only read keeps none."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, save({_VALUES: values}, {_DIGEST: digest_arrays([values])}))
