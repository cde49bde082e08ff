"""The verbs that write a new folder: `export` a merge, `table` of all evaluations, `handover` to training stacks.

A study on the table answers for another target without any new merge.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from objectives.stand_ins.swarm_table import SwarmTable, write_swarm
from objectives.target import measures_of
from pool.errors import StudyError
from pool.files.digests import short
from pool.files.names import file_name
from pool.files.whole import new_folder, refuse_occupied, write_text, writing_to
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import say
from pool.tokens.base_units import cut_into_units
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import Best
from studies.opened.on_pool import Workbench
from studies.opened.proxy import Proxy
from studies.outcome.handover.plan import HandoverPlan, make_plan
from studies.outcome.handover.stacks import METHODS, interleave_script, mergekit_yaml, olmix_yaml, olmo_core_yaml
from studies.terminal import json_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIXTURE_FILE = "mixture.json"
TEXT = "text"


def run_export(bench: Workbench, best: Best, folder: Path) -> Path:
    """Write model, tokenizer, model card and mixture.json into a new folder.

    Raises `StudyError` when the folder is not empty, and `OutputError` when it cannot be written.
    """
    refuse_folder(folder)
    with writing_to(folder), new_folder(folder.resolve()) as new:
        merged_model(bench.proxy, best.mixture).save_pretrained(new)
        load_tokenizer(bench.proxy.pool.folder / "tokenizer").save_pretrained(new)
        write_text(new / MIXTURE_FILE, json_text(best.as_json()) + "\n")
        write_text(new / "README.md", model_card(bench, best))
    return folder


def merged_model(proxy: Proxy, mixture: Mixture) -> PreTrainedModel:
    """Make a model of its own, in float32 on the CPU, with the merge of a mixture."""
    from pool.checkpoints.checkpoint import load_model, parameters_of  # loads torch

    proxy.make_resident(mixture)
    model = load_model(proxy.pool.folder / "seed")
    merged = parameters_of(proxy.stacked.model)
    for name, tensor in parameters_of(model).items():
        tensor.copy_(merged[name])
    return model


def model_card(bench: Workbench, best: Best) -> str:
    """Write the card of the merge of the best mixture, in Markdown."""
    mixture, target, pool = best.mixture, bench.config.target.weights, bench.proxy.pool
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


def run_handover(
    bench: Workbench, mixture: Mixture, folder: Path, *, tokens: int, token_files: str, with_text: bool
) -> HandoverPlan:
    """Write every form of the mixture for a training run of `tokens` tokens, and return the plan.

    With `with_text`, also write the training documents of the partitions used, as JSONL. A demo corpus has no files
    of its own, so its documents are always written. Raises `StudyError` when the folder is not empty,
    `OutputError` when it cannot be written, and `CorpusError` for missing text.
    """
    refuse_folder(folder)
    pool, by_units = bench.proxy.pool.by_units(), bench.proxy.pool.unit_mixture(mixture)
    plan = make_plan(bench.config.name, pool, by_units, tokens)
    with_text = with_text or pool.config.corpus.source == "demo"
    text_folder = folder.resolve() / TEXT if with_text else None
    seed = pool.folder / "seed"
    weights = _weights_of_units(bench.proxy, mixture)
    files = {
        MIXTURE_FILE: json_text(plan.as_json()) + "\n",
        "mixture.yaml": yaml.safe_dump(plan.as_json(), sort_keys=False),
        "interleave.py": interleave_script(plan, pool.config, text_folder),
        "olmo_core.yaml": olmo_core_yaml(plan, token_files),
        "olmix.yaml": olmix_yaml(plan, token_files),
        **{
            f"mergekit_{name}.yaml": mergekit_yaml(seed, pool.member_folders, weights, name)
            for name in METHODS
            if weights
        },
    }
    with writing_to(folder), new_folder(folder.resolve()) as new:
        for name, text in files.items():
            write_text(new / name, text)
        if with_text:
            _write_documents(pool, list(plan.used), new / TEXT)
    return plan


def refuse_folder(folder: Path) -> None:
    """Raise `StudyError` unless the path is free or an empty folder."""
    refuse_occupied(folder, StudyError(f"{folder} exists and is not empty; name a new folder"))


def _weights_of_units(proxy: Proxy, mixture: Mixture) -> dict[str, float]:
    """Give the merge weight of every member; those of a group share the group's weight evenly.

    Empty for a rule that weighs rows.
    """
    if proxy.settings.rule.by_rows:
        say("no files for mergekit: the merge rule weighs rows of matrices, which mergekit does not")
        return {}
    array = proxy.settings.rule.weights(mixture.over(proxy.pool.names).array)
    by_name = dict(zip(proxy.pool.names, array.tolist(), strict=True))
    return {unit: by_name[name] / len(some) for name, some in proxy.pool.groups.items() for unit in some} or by_name


def _write_documents(pool: Pool, names: list[str], folder: Path) -> None:
    from pool.tokens.preparing import read_text  # loads the hub's client

    folder.mkdir()
    corpus, unit_tokens = read_text(pool.config.corpus).corpus, pool.config.corpus.base_units_tokens
    if unit_tokens is not None:
        corpus, _ = cut_into_units(corpus, load_tokenizer(pool.folder / "tokenizer"), unit_tokens)
    for name in names:
        with (folder / f"{file_name(name)}.jsonl").open("w", encoding="utf-8") as stream:
            for document in corpus.partitions[name]:
                stream.write(json.dumps({"text": document}) + "\n")
