"""The verb `handover`: one new folder with the mixture in every form."""

import json
from pathlib import Path

import yaml

from pool.errors import StudyError
from pool.files.names import file_name
from pool.files.whole import new_folder, refuse_occupied, write_text, writing_to
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.base_units import cut_into_units
from pool.tokens.preparing import read_text
from pool.tokens.tokenizer import load_tokenizer
from studies.opened.on_pool import Workbench
from studies.opened.proxy import Proxy
from studies.outcome.handover.plan import HandoverPlan, make_plan
from studies.outcome.handover.stacks import METHODS, interleave_script, mergekit_yaml, olmix_yaml, olmo_core_yaml
from studies.terminal import json_text

TEXT = "text"


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
    weights, seed = _weights_of_units(bench.proxy, mixture), pool.folder / "seed"
    files = {
        "mixture.json": json_text(plan.as_json()) + "\n",
        "mixture.yaml": yaml.safe_dump(plan.as_json(), sort_keys=False),
        "interleave.py": interleave_script(plan, pool.config, text_folder),
        "olmo_core.yaml": olmo_core_yaml(plan, token_files),
        "olmix.yaml": olmix_yaml(plan, token_files),
        **{f"mergekit_{name}.yaml": mergekit_yaml(seed, pool.member_folders, weights, name) for name in METHODS},
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
    """Give the merge weight of every member; those of a group share the group's weight evenly."""
    array = proxy.settings.rule.weights(mixture.over(proxy.stacked.names).array)
    by_name = dict(zip(proxy.stacked.names, array.tolist(), strict=True))
    return {unit: by_name[name] / len(some) for name, some in proxy.pool.groups.items() for unit in some} or by_name


def _write_documents(pool: Pool, names: list[str], folder: Path) -> None:
    folder.mkdir()
    text, tokenizer = read_text(pool.config.corpus).corpus, load_tokenizer(pool.folder / "tokenizer")
    corpus, _ = cut_into_units(text, tokenizer, pool.config.corpus.base_units_tokens)
    for name in names:
        with (folder / f"{file_name(name)}.jsonl").open("w", encoding="utf-8") as stream:
            for document in corpus.partitions[name]:
                stream.write(json.dumps({"text": document}) + "\n")
