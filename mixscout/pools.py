"""Pools from Python: built, reckoned, opened."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pool.config.pool_file import read_pool_file
from pool.engines.choice import EngineRequest, chosen
from pool.parts.store import Pool
from pool.parts.store import open_pool as open_built
from studies.terminal import quiet_libraries

if TYPE_CHECKING:
    from pool.building.training.costs import Costs


def build_pool(path: str | PathLike[str], *, rebuild: Sequence[str] = (), workers: int | None = None) -> Pool:
    """Build the missing parts of a pool by its file; a second call finds the pool complete.

    rebuild: a member or several to train again; `seed` for the seed and all members, `all` for everything.
    workers: members trained side by side, by default one after the other, and those of a small model on CPUs one
        for each core.

    Raises a `MixscoutError` that names the thing at fault.
    """
    from pool.building.build import build_pool as build  # loads torch, which answers do without
    from studies.opened.ledger import charged

    quiet_libraries()
    config = read_pool_file(Path(path))
    with charged(config, "pool build"), chosen(EngineRequest(workers=workers), demand=config.demand) as engine:
        return build(config, [rebuild] if isinstance(rebuild, str) else list(rebuild), engine)


def pool_costs(path: str | PathLike[str], *, rebuild: Sequence[str] = (), workers: int | None = None) -> Costs:
    """Measure what `build_pool` would cost, by a few steps of it; nothing is written into the pool.

    Raises a `MixscoutError` that names the thing at fault; `Costs.check_room` raises for too little memory or disk.
    """
    from pool.building.costs import build_costs

    quiet_libraries()
    config = read_pool_file(Path(path))
    with chosen(EngineRequest(workers=workers), demand=config.demand) as engine:
        return build_costs(config, [rebuild] if isinstance(rebuild, str) else list(rebuild), engine)


def open_pool(path: str | PathLike[str]) -> Pool:
    """Open and verify the pool of a pool file. Raises a `MixscoutError` for a pool that is not complete."""
    quiet_libraries()
    return open_built(read_pool_file(Path(path)))
