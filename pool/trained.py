"""Models really trained on mixtures: by the members' recipe or one of their own, once each, some at a time.

POOL/trained/<digest>/ is named by everything that decides the weights, so what is there is never trained again, and a
killed command costs what was done since the last checkpoint of the runs that were under way.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pool.build import building, train_into, verified
from pool.checkpoint import load_model, load_tokenizer, verify_checkpoint
from pool.devices import claim_device, visible_devices
from pool.errors import PoolError
from pool.manifest import MANIFEST
from pool.material import SEED
from pool.mixture import Mixture
from pool.provenance import Provenance, provenance
from pool.recipe import Recipe
from pool.store import Pool, member_folder


@dataclass(frozen=True)
class Run:
    """One training run from the pool's seed: a mixture, and the recipe it is trained by."""

    mixture: Mixture
    recipe: Recipe


def train_to_mixture(pool: Pool, mixture: Mixture, recipe: Recipe | None = None) -> Path:
    """Really train a mixture, by the members' recipe where none is given; return its checkpoint's folder.

    A vertex is the member itself: the same function, seed, recipe and text made it. Raises `PoolError`.
    """
    run = Run(mixture, recipe or pool.config.recipe)
    for _ in train_runs(pool, [run]):
        pass
    folder = folder_of(pool, run)
    verify_checkpoint(folder, f"the model trained on mixture {mixture.digest[:6]}", f"delete {folder}")
    return folder


def train_runs(pool: Pool, runs: Sequence[Run], *, workers: int = 1) -> Iterator[Run]:
    """Train what is missing, `workers` processes at a time on a device each, and yield each run as soon as it is there.

    Those that were there come first. Raises `PoolError` when another command trains for this pool, when the seed was
    rebuilt in the meantime, or when a process died; then the same command goes on.
    """
    missing = [run for run in dict.fromkeys(runs) if not is_trained(pool, run)]
    yield from (run for run in runs if run not in missing)
    if not missing:
        return
    with building(pool.config):
        if verified(SEED, pool.folder / SEED).weights_digest != pool.manifest.seed.weights_digest:
            raise PoolError(
                f"pool {pool.config.name!r}: the seed was rebuilt in the meantime; run the same command again"
            )
        if min(workers, len(missing)) > 1:
            yield from _in_processes(pool, missing, workers)
            return
        for run in missing:
            _train(pool, run)
            yield run


def is_trained(pool: Pool, run: Run) -> bool:
    """Tell whether the run's checkpoint is there."""
    return (folder_of(pool, run) / MANIFEST).is_file()


def folder_of(pool: Pool, run: Run) -> Path:
    """Where the run's checkpoint is, or will be; a member's own folder for a vertex by the members' recipe."""
    units = pool.unit_mixture(run.mixture).support
    if len(units) == 1 and run.recipe.digest == pool.config.recipe.digest:
        return member_folder(pool.folder, units[0])
    return pool.folder / "trained" / _wanted(pool, run).digest[:16]


def _wanted(pool: Pool, run: Run) -> Provenance:
    corpus, seed = pool.manifest.corpus, pool.manifest.seed
    return provenance(
        pool.unit_mixture(run.mixture), run.recipe, pool.config.model, corpus, start_digest=seed.weights_digest
    )


def _train(pool: Pool, run: Run) -> Run:
    folder = folder_of(pool, run)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # a worker may outlive the command that started it
        if not is_trained(pool, run):
            start, tokenizer = load_model(pool.folder / SEED), load_tokenizer(pool.folder / "tokenizer")
            name = f"mixture {run.mixture.digest[:6]}"
            train_into(folder, start, _wanted(pool, run), pool.corpus, tokenizer, name=name)
    return run


def _in_processes(pool: Pool, runs: Sequence[Run], workers: int) -> Iterator[Run]:
    devices = visible_devices()
    with tempfile.TemporaryDirectory(prefix="mixscout-") as claims:
        tasks = [delayed(_train_in_process)(pool, run, devices, Path(claims)) for run in runs]
        processes = Parallel(n_jobs=min(workers, len(runs)), return_as="generator_unordered")
        try:
            yield from processes(tasks)
        except TerminatedWorkerError:
            raise PoolError(
                f"pool {pool.config.name!r}: a training process died, perhaps for want of memory; what was finished is "
                "kept: run the same command again, with fewer --workers if it dies again"
            ) from None


def _train_in_process(pool: Pool, run: Run, devices: Sequence[str], claims: Path) -> Run:
    claim_device(devices, claims)
    with contextlib.redirect_stderr(io.StringIO()):  # several bars on one terminal are none
        return _train(pool, run)
