"""`CheckpointManifest`: the JSON record of a checkpoint, written last; files are verified by it, without torch."""

import math
from pathlib import Path

from pydantic import SerializerFunctionWrapHandler, model_serializer
from safetensors import safe_open

from pool.config.recipe import Recipe, Shape
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.records import MANIFEST, Record, library_versions, read_record

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
AGES = "ages"
"""Folder, in a member's, of its checkpoints kept during training: MEMBER/ages/<steps>/."""

TRAINING_LIBRARIES = ("torch", "transformers", "numpy")


class Origin(Record):
    """The source of a checkpoint trained elsewhere.

    *_digest: digests of the files there.
    seed_recorded: whether a manifest of ours beside the checkpoint named the seed.
    hub, revision, commit: repository on the hub, the revision asked for, and its commit then.
    """

    weights_digest: str
    config_digest: str
    tokenizer_digest: str
    seed_recorded: bool = False
    hub: str | None = None
    revision: str | None = None
    commit: str | None = None


class HeldOutCourse(Record):
    """Held-out nats per token by step in a run with early stopping, and the step of the kept checkpoint."""

    best_step: int
    loss_nats: dict[int, float]


class SeedTextLoss(Record):
    """Nats per token on held-out text of the seed's mixture, before and after training from the seed."""

    before_nats: float
    after_nats: float

    @property
    def rise_nats(self) -> float:
        """Forgetting; negative after an improvement."""
        return self.after_nats - self.before_nats


class AgeDigests(Record):
    weights: str
    config: str


class CheckpointManifest(Record):
    """The record of a checkpoint.

    Imported checkpoints have no loss, imported seeds no mixture, and recipe and tokens are optional there. Options of
    the recipe fill in the rest:

    held_out_digests, held_out: text and course of early stopping.
    optimizer_digest, adapter_digest: files kept beside the weights.
    ages: checkpoints kept during training, by optimiser steps.
    processor_seconds: of the run, as the operating system counts; gpu_seconds: wall time times GPUs; trained_unix: its
        end, in Unix seconds. Absent, and out of the file, where not measured.
    """

    mixture: dict[str, float]
    recipe: Recipe | None
    shape: Shape
    start_digest: str
    data_digests: dict[str, str]
    tokenizer_digest: str
    weights_digest: str
    config_digest: str
    tokens: int | None
    final_loss_nats: float | None
    seconds: float
    versions: dict[str, str]
    imported: Origin | None = None
    held_out_digests: dict[str, str] = {}
    held_out: HeldOutCourse | None = None
    seed_text: SeedTextLoss | None = None
    optimizer_digest: str | None = None
    adapter_digest: str | None = None
    ages: dict[int, AgeDigests] = {}
    processor_seconds: float | None = None
    gpu_seconds: float | None = None
    trained_unix: float | None = None

    @model_serializer(mode="wrap")
    def _without_unmeasured(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what was not measured: a record from before these fields stays the same byte for byte."""
        content: dict[str, object] = handler(self)
        for name in ("processor_seconds", "gpu_seconds", "trained_unix"):
            if content.get(name) is None:
                content.pop(name, None)
        return content


def imported_manifest(
    origin: Origin,
    *,
    shape: Shape,
    start_digest: str,
    tokenizer_digest: str,
    mixture: dict[str, float] | None = None,
    record: CheckpointManifest | None = None,
) -> CheckpointManifest:
    """Describe a checkpoint trained elsewhere, before saving; `record` is its own manifest, if any."""
    return CheckpointManifest(
        mixture=mixture or {},
        recipe=record.recipe if record is not None else None,
        shape=shape,
        start_digest=start_digest,
        data_digests={},
        tokenizer_digest=tokenizer_digest,
        weights_digest="",
        config_digest="",
        tokens=record.tokens if record is not None else None,
        final_loss_nats=None,
        seconds=0.0,
        versions=library_versions(TRAINING_LIBRARIES),
        imported=origin,
    )


def verify_checkpoint(folder: Path, what: str, remedy: str) -> CheckpointManifest:
    """Read a checkpoint's manifest, and compare the digests of weights and config.

    Raises `PoolError` with the `remedy` if a file of `what` is missing, truncated or altered.
    """
    manifest = read_record(folder / MANIFEST, CheckpointManifest, remedy)
    for name, expected in ((WEIGHTS, manifest.weights_digest), (CONFIG, manifest.config_digest)):
        try:
            digest = digest_file(folder / name)
        except OSError as error:
            raise PoolError(f"{what}: {folder / name}: {error.strerror}; {remedy}") from None
        if digest != expected:
            raise PoolError(
                f"{what}: {folder / name} was truncated or altered since it was trained "
                f"(its digest is not the one in {MANIFEST}); {remedy}"
            )
    return manifest


def count_parameters(weights: Path) -> int:
    """Count the parameters of a safetensors file by its beginning; tied ones are there once."""
    with safe_open(weights, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def age_folder(member: Path, steps: int) -> Path:
    return member / AGES / str(steps)


def age_digests(age: Path) -> AgeDigests:
    return AgeDigests(weights=digest_file(age / WEIGHTS), config=digest_file(age / CONFIG))
