"""Models really trained on mixtures, by the members' recipe or another one, once each.

POOL/trained/<digest>/ is named by everything that decides the weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool.building.job import TrainingJob, remedy_of_trained
from pool.checkpoints.checkpoint import verify_checkpoint
from pool.config.pool_file import naming
from pool.config.recipe import Recipe
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import PoolError
from pool.files.records import MANIFEST
from pool.mixture import Mixture
from pool.parts.layout import SEED, PoolLayout, building, member_folder
from pool.parts.provenance import Provenance, member_provenance
from pool.parts.store import Pool, verified


@dataclass(frozen=True)
class TruthRun:
    mixture: Mixture
    recipe: Recipe


def train_to_mixture(pool: Pool, mixture: Mixture, recipe: Recipe | None = None) -> Path:
    """Train a mixture, by default by the members' recipe; return its checkpoint's folder. Raises `PoolError`.

    A vertex is its member, unless the member was imported: see `folder_of`.
    """
    run = TruthRun(mixture, recipe or pool.config.recipe)
    for _ in train_runs(pool, [run]):
        pass
    folder = folder_of(pool, run)
    verify_checkpoint(folder, f"the model trained on mixture {mixture.digest[:6]}", remedy_of_trained(folder))
    return folder


def train_runs(pool: Pool, runs: Sequence[TruthRun], engine: Engine = ONE_BY_ONE) -> Iterator[TruthRun]:
    """Train missing runs, by an engine, and yield each run as soon as it is there; existing ones come first.

    Raises `PoolError` while another command trains, and for a seed rebuilt meanwhile; `EngineError` for a lost job.
    """
    missing = [run for run in dict.fromkeys(runs) if not is_trained(pool, run)]
    yield from (run for run in runs if run not in missing)
    if not missing:
        return
    with naming(pool.config), building(pool.folder):
        if verified(SEED, pool.folder / SEED).weights_digest != pool.manifest.seed.weights_digest:
            raise PoolError(
                f"pool {pool.config.name!r}: the seed was rebuilt in the meantime; run the same command again"
            )
        jobs = []
        for run in missing:
            wanted, folder = _wanted(pool, run), folder_of(pool, run)
            called = f"mixture {run.mixture.digest[:6]}, run {wanted.digest[:8]}"
            jobs.append(TrainingJob(PoolLayout(pool.folder), folder, wanted, called).job)
        by_name = {job.name: run for job, run in zip(jobs, missing, strict=True)}
        for name, _ in engine.run(jobs):
            yield by_name[name]


def is_trained(pool: Pool, run: TruthRun) -> bool:
    return (folder_of(pool, run) / MANIFEST).is_file()


def folder_of(pool: Pool, run: TruthRun) -> Path:
    """Folder of the run's checkpoint; a member's own for a vertex by the members' recipe.

    An imported member was trained by an unknown recipe, so its folder is no run's.
    """
    units = pool.unit_mixture(run.mixture).support
    by_members_recipe = len(units) == 1 and run.recipe.digest == pool.config.recipe.digest
    if by_members_recipe and pool.manifest.members[units[0]].imported is None:
        return member_folder(pool.folder, units[0])
    return pool.folder / "trained" / _wanted(pool, run).digest[:16]


def _wanted(pool: Pool, run: TruthRun) -> Provenance:
    corpus, seed = pool.manifest.corpus, pool.manifest.seed
    recipe = run.recipe.model_copy(update={"keep_every_steps": None})  # only members are merged at an age
    return member_provenance(pool.unit_mixture(run.mixture), recipe, corpus, seed)
