"""The JSON records that say what a checkpoint and a pool are; read strictly, written last.

Versions of what a checkpoint's weights may hang on, for its manifest.
"""

from pool.config.recipe import Recipe, Shape
from pool.files.records import Record, library_versions

TRAINING_LIBRARIES = ("torch", "transformers", "numpy")


class Origin(Record):
    """Where a checkpoint that was not trained here comes from: digests of what it was there.

    `seed_recorded` tells whether a record of ours beside it named the seed; on the hub, `revision` was `commit`.
    """

    weights_digest: str
    config_digest: str
    tokenizer_digest: str
    seed_recorded: bool = False
    hub: str | None = None
    revision: str | None = None
    commit: str | None = None


class HeldOutCourse(Record):
    """The course of a run that could stop early: held-out nats per token by step, and the step that was kept."""

    best_step: int
    loss_nats: dict[int, float]


class SeedTextLoss(Record):
    """Nats per token on held-out text of the seed's mixture, by the seed and by what was trained from it."""

    before_nats: float
    after_nats: float

    @property
    def rise_nats(self) -> float:
        """What was forgotten; negative where the text got easier."""
        return self.after_nats - self.before_nats


class AgeDigests(Record):
    """Digests of a checkpoint kept along the way: of its weights and its configuration."""

    weights: str
    config: str


class CheckpointManifest(Record):
    """What a checkpoint is. `weights_digest` is of model.safetensors.

    Where it is `imported`, there is no loss, a recipe and the `tokens` it was trained on only if a record of ours named
    them, and for a seed no mixture.
    What a recipe's options add is there where they are used: the digests of the held-out text that stopped it and its
    course, the digests of what is kept beside it: the optimizer's state, the adapter that was merged into it, its ages
    by optimiser steps.
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


def imported_manifest(
    origin: Origin,
    *,
    shape: Shape,
    start_digest: str,
    tokenizer_digest: str,
    mixture: dict[str, float] | None = None,
    record: CheckpointManifest | None = None,
) -> CheckpointManifest:
    """Describe a checkpoint trained elsewhere, about to be saved; what is known of its training is in a `record`."""
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
