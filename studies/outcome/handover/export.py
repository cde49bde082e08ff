"""The verbs `export` and `table`: the best mixture's merge as a checkpoint, and all evaluations as a swarm.

A study on this swarm answers for another target without any new merge.
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from objectives.stand_ins.swarm_table import SwarmTable, write_swarm
from objectives.target import measures_of
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.errors import StudyError
from pool.files.digests import short
from pool.files.whole import new_folder, write_text, writing_to
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import Best
from studies.opened.on_pool import Workbench
from studies.opened.proxy import Proxy
from studies.outcome.handover.run import refuse_folder
from studies.terminal import json_text

MIXTURE_FILE = "mixture.json"


def run_export(bench: Workbench, best: Best, folder: Path) -> Path:
    """Write model, tokenizer, model card and mixture.json into a new folder.

    Raises `StudyError` when the folder is not empty, and `OutputError` when it cannot be written.
    """
    refuse_folder(folder)
    mixture = best.best.mixture
    assert mixture is not None
    with writing_to(folder), new_folder(folder.resolve()) as new:
        _write_model(bench.proxy, mixture, new)
        write_text(new / MIXTURE_FILE, json_text(best.as_json()) + "\n")
        write_text(new / "README.md", _card(best, mixture, bench.config.target.weights, bench.proxy.pool))
    return folder


def _write_model(proxy: Proxy, mixture: Mixture, folder: Path) -> None:
    proxy.make_resident(mixture)
    model = load_model(proxy.pool.folder / "seed")
    merged = parameters_of(proxy.stacked.model)
    for name, tensor in parameters_of(model).items():
        tensor.copy_(merged[name])
    model.save_pretrained(folder)
    load_tokenizer(proxy.pool.folder / "tokenizer").save_pretrained(folder)


def _card(best: Best, mixture: Mixture, target: Mapping[str, float], pool: Pool) -> str:
    weights = "\n".join(f"| {name} | {weight:.4f} |" for name, weight in mixture.as_dict().items() if weight > 0)
    test = best.best.scores["test"]
    domains = "\n".join(
        f"| {name} | {target.get(name, '-')} | {loss.loss_nats:.4f} | {loss.perplexity:.2f} "
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

Pool {pool.config.name} ({short(pool.manifest.digest)}), {best.counts.merges} merges,
{best.counts.pruned} proposals pruned, Mixscout {importlib.metadata.version("mixscout")}. The mixture and all figures
are in `{MIXTURE_FILE}`.
"""


def run_table(bench: Workbench, folder: Path) -> SwarmTable:
    """Write all remembered full evaluations: each domain's loss on the search split, in the study's measure.

    A run bears the first letters of its mixture's digest. Raises `StudyError` when nothing is remembered, or when the
    folder is not empty, and `OutputError` when it cannot be written.
    """
    refuse_folder(folder)
    found = bench.database.evaluations.all_of(bench.losses["search"].digest)
    if not found:
        raise StudyError(
            f"study {bench.config.name!r} has no evaluation of held-out losses to write; run `mixscout search "
            f"{bench.config.typed}` first (downstream scores are none)"
        )
    names, goal = bench.proxy.pool.names, bench.target
    measures = np.array([measures_of(one.domains, goal.domains, goal.measure) for one in found])
    table = SwarmTable(
        tuple(one.mixture.digest[:12] for one in found),
        names,
        np.array([one.mixture.over(names).array for one in found]),
        dict(zip(goal.domains, measures.T, strict=True)),
    )
    with writing_to(folder):
        write_swarm(table, folder.resolve())
    return table
