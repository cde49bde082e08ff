"""From a provenance to a checkpoint on disk, in any process or machine with the pool's folder in sight.

A checkpoint's folder is locked during training: a process may outlive its command.

Models really trained on mixtures, by the members' recipe or another one, are trained once each. The folder
POOL/trained/<digest>/ is named by everything that decides the weights.
"""

import contextlib
import math
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from filelock import FileLock
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pool.building.training import run_files
from pool.building.training.inputs import HeldOutText, RunInputs, held_out_text
from pool.building.training.placement import ADAPTER, ADAPTER_WEIGHTS
from pool.building.training.run_files import BESIDE, OPTIMIZER, all_age_digests, checkpoints_of
from pool.building.training.seed_penalty import fisher_of
from pool.building.training.train import TrainingOutcome, train
from pool.checkpoints.checkpoint import load_model, new_model, save_checkpoint
from pool.checkpoints.manifest import (
    TRAINING_LIBRARIES,
    CheckpointManifest,
    HeldOutCourse,
    SeedTextLoss,
    verify_checkpoint,
)
from pool.config.pool_file import naming
from pool.config.recipe import ModelShape, Recipe
from pool.engines.engine import ONE_BY_ONE, Engine, Job
from pool.engines.resources import processor_seconds
from pool.errors import ConfigError, PoolError
from pool.files.digests import digest_file
from pool.files.names import as_typed
from pool.files.records import MANIFEST, library_versions, read_record
from pool.files.whole import new_folder
from pool.mixture import Mixture
from pool.parts.layout import SEED, PoolLayout, adding_beside_others, building, member_folder
from pool.parts.provenance import Provenance, TruthRun, member_provenance, remedy_of
from pool.parts.store import Pool, verified
from pool.progress import kept
from pool.tokens.held_out import Tokens
from pool.tokens.prepared import CORPUS_RECORD, CorpusManifest, load_streams
from pool.tokens.tokenizer import load_tokenizer

SEED_TEXT_WINDOWS = 64
"""About how many held-out windows measure forgetting: a few hundredths of a training run."""


@dataclass(frozen=True)
class NewModel:
    """The start of a seed; its tokenizer is saved as it is in hand: a loaded one would save more keys."""

    tokenizer: PreTrainedTokenizerFast
    vocabulary: int
    initial_seed: int
    keeps_optimizer: bool


@dataclass(frozen=True)
class TrainingJob:
    """One checkpoint to train into `folder`: from the pool's seed, or, for the seed itself, from a new model.

    shown: how its progress calls the run; empty for its label
    """

    pool: PoolLayout
    folder: Path
    wanted: Provenance
    label: str
    start: NewModel | None = None
    shown: str = ""

    @property
    def job(self) -> Job[CheckpointManifest]:
        """The job for an engine; each checkpoint on the way is progress."""
        return Job(self.label, self, self._on_the_way, self._scratch("said."), self._take_less_memory)

    def __call__(self) -> CheckpointManifest:
        """Train, unless another process did meanwhile. Raises `PoolError`."""
        if self.start is not None:  # the pool's own lock is enough for its seed
            shape, start = cast(ModelShape, self.wanted.shape), self.start
            made = partial(new_model, shape, start.vocabulary, initial_seed=start.initial_seed)
            inputs = RunInputs(stopping=self._stopping, keeps_optimizer=start.keeps_optimizer, start=made)
            return self._trained(made(), self._streams, inputs)
        seed = self.pool.seed / MANIFEST
        if not seed.is_file():
            raise PoolError(
                f"{seed} is not there on {socket.gethostname()}: every machine that trains needs the pool's folder, at "
                "the same path, on a file system that they share"
            )
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            if (self.folder / MANIFEST).is_file():
                return verify_checkpoint(self.folder, self.label, remedy_of_trained(self.folder))
            streams = self._streams
            return self._trained(load_model(self.pool.seed), streams, self._member_inputs(streams))

    @property
    def _streams(self) -> dict[str, Tokens]:
        return load_streams(self.pool.corpus, self.wanted.data_digests)

    def _scratch(self, what: str = "") -> Path:
        return self.folder.parent / f".{self.folder.name}.{self.wanted.digest[:12]}.{what}scratch"

    def _on_the_way(self) -> frozenset[str]:
        return frozenset(path.name for path in checkpoints_of(self._scratch()))

    def _take_less_memory(self) -> str:
        recipe = self.wanted.recipe
        part = run_files.take_smaller_part(recipe, self._scratch())
        return "" if part is None else f"{part} of {recipe.batch_of_a_process} windows at a time"

    def _member_inputs(self, streams: Mapping[str, Tokens]) -> RunInputs:
        seed = read_record(self.pool.seed / MANIFEST, CheckpointManifest, remedy_of(SEED))
        return RunInputs(
            replayed=self.wanted.seed_mixture if self.wanted.recipe.replay_share else None,
            stopping=self._stopping,
            optimizer=_optimizer(self.pool.seed, seed) if self.wanted.recipe.continue_optimizer else None,
            importance=self._importance(seed, streams),
            seed_text=self._seed_text(seed),
            start=partial(load_model, self.pool.seed),
        )

    @property
    def _stopping(self) -> HeldOutText | None:
        return self._held_out_text(self.wanted.mixture) if self.wanted.recipe.early_stopping else None

    def _held_out_text(self, mixture: Mixture) -> HeldOutText:
        return held_out_text(self.pool.corpus, read_record(self.pool.corpus / CORPUS_RECORD, CorpusManifest), mixture)

    def _seed_text(self, seed: CheckpointManifest) -> HeldOutText | None:
        """Read held-out text of the seed's mixture; None for an unknown mixture, or without held-out text."""
        if seed.imported is None:
            with contextlib.suppress(ConfigError):
                return self._held_out_text(Mixture.of(seed.mixture)).at_most(SEED_TEXT_WINDOWS)
        return None

    def _importance(self, seed: CheckpointManifest, streams: Mapping[str, Tokens]) -> dict[str, torch.Tensor] | None:
        penalty = self.wanted.recipe.seed_penalty
        if penalty is None or penalty.kind == "l2":
            return None
        digests = {name: self.wanted.data_digests[name] for name in Mixture.of(seed.mixture).support}
        return fisher_of(self.pool.seed, seed, streams, digests, penalty.fisher_windows)

    def _trained(self, model: PreTrainedModel, streams: Mapping[str, Tokens], inputs: RunInputs) -> CheckpointManifest:
        scratch, wanted, begun = self._scratch(), self.wanted, processor_seconds()
        tokenizer = self.start.tokenizer if self.start is not None else load_tokenizer(self.pool.tokenizer)
        before = inputs.seed_text.loss_nats_by_gpu(model) if inputs.seed_text else math.nan
        label, context = self.shown or self.label, wanted.shape.context
        outcome = train(
            model, streams, wanted.mixture, wanted.recipe, scratch=scratch, label=label, context=context, inputs=inputs
        )
        more: dict[str, object] = {}
        if inputs.seed_text:
            more["seed_text"] = SeedTextLoss(before_nats=before, after_nats=inputs.seed_text.loss_nats_by_gpu(model))
        more |= {"processor_seconds": processor_seconds() - begun, "trained_unix": time.time()}
        with new_folder(self.folder) as new:
            if (scratch / BESIDE).is_dir():
                shutil.copytree(scratch / BESIDE, new, dirs_exist_ok=True)
            if inputs.keeps_optimizer:
                more["optimizer_digest"] = digest_file(new / OPTIMIZER)
            if wanted.recipe.lora:
                more["adapter_digest"] = digest_file(new / ADAPTER / ADAPTER_WEIGHTS)
            manifest = _manifest(wanted, outcome).model_copy(update={**more, "ages": all_age_digests(new)})
            complete = save_checkpoint(model, tokenizer, new, manifest)
        run_files.discard_scratch(scratch)
        return complete


def _optimizer(folder: Path, seed: CheckpointManifest) -> Path:
    path = folder / OPTIMIZER
    if seed.optimizer_digest is None or not path.is_file():
        raise PoolError(
            f"[recipe] continue_optimizer: the seed in {folder} was trained without keeping its optimizer's state; run "
            "`mixscout pool build POOL.toml --rebuild seed`"
        )
    if digest_file(path) != seed.optimizer_digest:
        raise PoolError(
            f"{path} was truncated or altered since the seed was trained; run `mixscout pool build POOL.toml --rebuild "
            "seed`, which makes the seed again"
        )
    return path


def remedy_of_trained(folder: Path) -> str:
    """Word the remedy for a damaged model of a ground truth."""
    return f"run `rm -r {as_typed(folder)}`, and the same command again, which trains it again"


def _manifest(wanted: Provenance, outcome: TrainingOutcome) -> CheckpointManifest:
    course = None
    if outcome.best_step is not None:
        course = HeldOutCourse(best_step=outcome.best_step, loss_nats=dict(outcome.held_out_nats))
    return CheckpointManifest(
        mixture=wanted.mixture.as_dict(),
        recipe=wanted.recipe,
        shape=wanted.shape,
        start_digest=wanted.start_digest,
        data_digests=dict(wanted.data_digests),
        tokenizer_digest=wanted.tokenizer_digest,
        weights_digest="",
        config_digest="",
        tokens=outcome.tokens,
        final_loss_nats=outcome.final_loss_nats,
        seconds=outcome.seconds,
        gpu_seconds=outcome.gpu_seconds,
        versions=library_versions(TRAINING_LIBRARIES),
        held_out_digests=dict(wanted.held_out_digests),
        held_out=course,
    )


def train_to_mixture(pool: Pool, mixture: Mixture, recipe: Recipe | None = None) -> Path:
    """Train a mixture, by default by the members' recipe; return its checkpoint's folder. Raises `PoolError`.

    A vertex is its member, unless the member was imported: see `folder_of`.
    """
    run = TruthRun(mixture, recipe or pool.config.recipe)
    for _ in train_runs(pool, [run]):
        pass
    folder = folder_of(pool, run)
    verify_checkpoint(folder, f"the model trained on {run.called}", remedy_of_trained(folder))
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
        _check_seed(pool)
        jobs, names = [], [run.called for run in missing]
        for number, run in enumerate(missing, start=1):
            wanted, folder = _wanted(pool, run), folder_of(pool, run)
            called = run.called if names.count(run.called) == 1 else f"{run.called}, run {wanted.digest[:8]}"
            shown = f"training {number} of {len(missing)}: {called}"
            jobs.append(TrainingJob(PoolLayout(pool.folder), folder, wanted, called, shown=shown).job)
        by_name = {job.name: run for job, run in zip(jobs, missing, strict=True)}
        folders = {job.name: folder_of(pool, by_name[job.name]) for job in jobs}
        with kept(lambda: f"kept: {run_files.kept_of(folders)}"):
            for name, _ in engine.run(jobs):
                yield by_name[name]


def train_beside(pool: Pool, run: TruthRun, *, shown: str) -> None:
    """Train a run, unless it is there, while other processes may train others; `shown` is how progress calls it.

    Raises `PoolError` while another command builds the pool or trains alone.
    """
    if is_trained(pool, run):
        return
    with naming(pool.config), adding_beside_others(pool.folder):
        _check_seed(pool)
        folder = folder_of(pool, run)
        job = TrainingJob(PoolLayout(pool.folder), folder, _wanted(pool, run), run.called, shown=shown)
        with kept(lambda: f"kept: {run_files.kept_of({shown: folder})}"):
            job()


def _check_seed(pool: Pool) -> None:
    if verified(SEED, pool.folder / SEED).weights_digest != pool.manifest.seed.weights_digest:
        raise PoolError(f"pool {pool.config.name!r}: the seed was rebuilt in the meantime; run the same command again")


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
