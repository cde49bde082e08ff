"""The verb `export`: the merge of the best mixture as a Hugging Face checkpoint, with a model card."""

import importlib.metadata
from pathlib import Path

from safetensors import SafetensorError

from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.errors import StudyError
from pool.files.digests import short
from pool.files.whole import new_folder, refuse_occupied, write_text
from pool.mixture import Mixture
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import Best
from studies.opened.on_pool import Workbench
from studies.terminal import json_text

MIXTURE_FILE = "mixture.json"


def run_export(bench: Workbench, best: Best, folder: Path) -> Path:
    """Write model, tokenizer, card and mixture.json into a new folder.

    Raises `StudyError` when the folder exists and is not empty.
    """
    refuse_occupied(folder, StudyError(f"{folder} exists and is not empty; name a new folder"))
    mixture = best.best.mixture
    assert mixture is not None
    try:
        with new_folder(folder.resolve()) as new:
            _write_model(bench, mixture, new)
            write_text(new / MIXTURE_FILE, json_text(best.as_json()) + "\n")
            write_text(new / "README.md", _card(bench, best, mixture))
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StudyError(f"{folder}: cannot write there: {reason}") from None
    return folder


def _write_model(bench: Workbench, mixture: Mixture, folder: Path) -> None:
    bench.make_resident(mixture)
    model = load_model(bench.pool.folder / "seed")
    merged = parameters_of(bench.stacked.model)
    for name, tensor in parameters_of(model).items():
        tensor.copy_(merged[name])
    model.save_pretrained(folder)
    load_tokenizer(bench.pool.folder / "tokenizer").save_pretrained(folder)


def _card(bench: Workbench, best: Best, mixture: Mixture) -> str:
    weights = "\n".join(f"| {name} | {weight:.4f} |" for name, weight in mixture.as_dict().items() if weight > 0)
    test = best.best.scores["test"]
    domains = "\n".join(
        f"| {name} | {bench.config.target.get(name, '-')} | {loss.loss_nats:.4f} | {loss.perplexity:.2f} "
        f"| {loss.bits_per_byte:.4f} |"
        for name, loss in test.domains.items()
    )
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- merge
- mixscout
---

# {best.study}: merge of the best mixture

A weighted parameter average of {len(mixture.support)} models, each trained from one seed checkpoint on one
partition of a corpus. It stands for a model trained on this mixture of the partitions; it was not trained on it.

| partition | weight |
|---|---|
{weights}

Held-out loss on the test split (never searched on): {test.loss_nats:.4f} nats per token.

| domain | target weight | loss (nats per token) | perplexity | bits per byte |
|---|---|---|---|---|
{domains}

Pool {bench.pool.config.name} ({short(bench.pool.manifest.digest)}), {best.counts.merges} merges,
{best.counts.pruned} proposals pruned, Mixscout {importlib.metadata.version("mixscout")}. The mixture and all figures
are in `{MIXTURE_FILE}`.
"""
