"""Pools from Python: built, and opened."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from pool.building.build import build_pool as build
from pool.config.pool_file import read_pool_file
from pool.engines.choice import EngineRequest, chosen
from pool.parts.store import Pool
from pool.parts.store import open_pool as opened
from studies.terminal import quiet_libraries


def build_pool(path: str | PathLike[str], *, rebuild: Sequence[str] = (), workers: int | None = None) -> Pool:
    """Build the missing parts of a pool by its file; a second call finds the pool complete.

    rebuild: members to train again; `seed` for the seed and all members, `all` for everything.
    workers: members trained side by side, by default one after the other.

    Raises a `MixscoutError` that names the thing at fault.
    """
    quiet_libraries()
    config = read_pool_file(Path(path))
    with chosen(EngineRequest(workers=workers), otherwise=config.recipe.resources) as engine:
        return build(config, list(rebuild), engine)


def open_pool(path: str | PathLike[str]) -> Pool:
    """Open and verify the pool of a pool file. Raises a `MixscoutError` for a pool that is not complete."""
    quiet_libraries()
    return opened(read_pool_file(Path(path)))
