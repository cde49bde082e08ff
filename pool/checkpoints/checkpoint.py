"""Models on disk: safetensors only, no remote code, and weights believed only under their digest."""

from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from pool.checkpoints.families import family_config
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.recipe import ModelShape
from pool.errors import PoolError, first_line
from pool.files.digests import digest_file
from pool.files.records import MANIFEST, read_record, write_record

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def new_model(shape: ModelShape, vocabulary: int, *, initial_seed: int) -> PreTrainedModel:
    """Build a float32 model with random parameters; the global random state is left as it was."""
    config = family_config(shape, vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        return cast(PreTrainedModel, model)


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a checkpoint from a local folder, in evaluation mode.

    Raises `PoolError` naming the folder when it is missing, truncated or not safetensors.
    """
    if not (folder / WEIGHTS).is_file():
        raise PoolError(f"{folder / WEIGHTS} is missing; only safetensors checkpoints are read")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # transformers and safetensors raise many types for one fact: not loadable
        raise PoolError(f"{folder}: not a checkpoint that can be loaded: {first_line(error)}") from None
    return cast(PreTrainedModel, model.eval())  # type: ignore[no-untyped-call]


def parameters_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return a module's floating-point parameters by name, tied ones once (P values in all)."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def check_finite(model: PreTrainedModel, what: str, remedy: str) -> None:
    """Raise `PoolError` naming the first tensor of `what` that holds NaN or infinity, and the remedy."""
    for name, tensor in parameters_of(model).items():
        if not bool(torch.isfinite(tensor).all()):
            raise PoolError(f"{what} has NaN or infinite values in {name}; {remedy}")


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, manifest: CheckpointManifest
) -> CheckpointManifest:
    """Write model, tokenizer and, last, the manifest with the digests of the weights and config just written."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    digests = {"weights_digest": digest_file(folder / WEIGHTS), "config_digest": digest_file(folder / CONFIG)}
    complete = manifest.model_copy(update=digests)
    write_record(folder / MANIFEST, complete)
    return complete


def verify_checkpoint(folder: Path, what: str, remedy: str) -> CheckpointManifest:
    """Read a checkpoint's manifest and compare the digests of its weights and config.

    Raises `PoolError` naming `what` and the `remedy` when something is missing, truncated or altered.
    """
    manifest = read_record(folder / MANIFEST, CheckpointManifest)
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
