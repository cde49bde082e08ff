"""Models really trained on mixtures: by the members' recipe or one of their own, once each, some at a time.

POOL/trained/<digest>/ is named by everything that decides the weights, so what is there is never trained again, and a
killed command costs what was done since the last checkpoint of the runs that were under way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool.building.build import verified
from pool.building.job import TrainingJob
from pool.checkpoints.checkpoint import verify_checkpoint
from pool.config.recipe import Recipe
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import PoolError
from pool.files.records import MANIFEST
from pool.mixture import Mixture
from pool.parts.exchange import building
from pool.parts.layout import SEED, PoolLayout, member_folder
from pool.parts.provenance import Provenance, member_provenance
from pool.parts.store import Pool


@dataclass(frozen=True)
class TruthRun:
    """One training run from the pool's seed: a mixture, and the recipe it is trained by."""

    mixture: Mixture
    recipe: Recipe


def train_to_mixture(pool: Pool, mixture: Mixture, recipe: Recipe | None = None) -> Path:
    """Really train a mixture, by the members' recipe where none is given; return its checkpoint's folder.

    A vertex is the member itself, where it was trained here: the same function, seed, recipe and text made it. Raises
    `PoolError`.
    """
    run = TruthRun(mixture, recipe or pool.config.recipe)
    for _ in train_runs(pool, [run]):
        pass
    folder = folder_of(pool, run)
    verify_checkpoint(folder, f"the model trained on mixture {mixture.digest[:6]}", f"delete {folder}")
    return folder


def train_runs(pool: Pool, runs: Sequence[TruthRun], engine: Engine = ONE_BY_ONE) -> Iterator[TruthRun]:
    """Train what is missing, by an engine, and yield each run as soon as it is there.

    Those that were there come first. Raises `PoolError` when another command trains for this pool or when the seed was
    rebuilt in the meantime, and `EngineError` when what trains died again and again; then the same command goes on.
    """
    missing = [run for run in dict.fromkeys(runs) if not is_trained(pool, run)]
    yield from (run for run in runs if run not in missing)
    if not missing:
        return
    with building(pool.folder):
        if verified(SEED, pool.folder / SEED).weights_digest != pool.manifest.seed.weights_digest:
            raise PoolError(
                f"pool {pool.config.name!r}: the seed was rebuilt in the meantime; run the same command again"
            )
        trainings = [_training(pool, run) for run in missing]
        by_name = {one.label: run for one, run in zip(trainings, missing, strict=True)}
        for name, _ in engine.run([one.job for one in trainings]):
            yield by_name[name]


def is_trained(pool: Pool, run: TruthRun) -> bool:
    """Tell whether the run's checkpoint is there."""
    return (folder_of(pool, run) / MANIFEST).is_file()


def folder_of(pool: Pool, run: TruthRun) -> Path:
    """Where the run's checkpoint is, or will be; a member's own folder for a vertex by the members' recipe.

    An imported member was trained by a recipe that nobody knows, so it is no such run.
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


def _training(pool: Pool, run: TruthRun) -> TrainingJob:
    wanted = _wanted(pool, run)
    called = f"mixture {run.mixture.digest[:6]}, run {wanted.digest[:8]}"
    return TrainingJob(PoolLayout(pool.folder), folder_of(pool, run), wanted, called)
