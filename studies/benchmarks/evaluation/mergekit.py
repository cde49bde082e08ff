"""What a user would otherwise do for every candidate: mergekit to disk, load, score with a plain forward pass."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from objectives.held_out import Floats
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model
from pool.errors import ConfigError
from pool.tokens.held_out import IGNORED


def check_mergekit() -> None:
    """Raise `ConfigError` when mergekit is not installed."""
    try:
        import mergekit.merge  # noqa: F401
    except ImportError:
        raise ConfigError("this comparison needs mergekit: pip install 'mixscout[bench]'") from None


def ready_by_mergekit(folders: Mapping[str, Path], weights: Floats, device: torch.device) -> PreTrainedModel:
    """Merge members by weights (K,) with mergekit's `linear` into a temporary folder, and load the result."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    models = [
        {"model": str(folder), "parameters": {"weight": float(weight)}}
        for folder, weight in zip(folders.values(), weights, strict=True)
        if weight != 0
    ]
    config = MergeConfiguration.model_validate({"merge_method": "linear", "models": models, "dtype": "float32"})
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False, cuda=device.type == "cuda")
    logging.getLogger("mergekit").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        run_merge(config, folder, options=options)
        model = load_model(Path(folder))
    torch.nn.Module.to(model, device)
    return model


def plain_loss(model: PreTrainedModel, table: WindowTable, windows_at_once: int) -> Floats:
    """Return the nats of every window (W,), from whole logits, in the table's order."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(table.inputs), windows_at_once):
            batch = slice(start, start + windows_at_once)
            inputs, targets = (torch.tensor(part[batch], dtype=torch.int64) for part in (table.inputs, table.targets))
            logits = model(input_ids=inputs.to(model.device), use_cache=False).logits.float()
            flat = targets.to(model.device).flatten()
            nats = cross_entropy(logits.flatten(0, 1), flat, ignore_index=IGNORED, reduction="none")
            parts.append(nats.view(targets.shape).double().sum(dim=1).cpu())
    together: Floats = torch.cat(parts).numpy().astype(np.float64)
    return together
