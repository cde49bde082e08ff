"""The verb `handover`: one new folder with the mixture in every form."""

import json
from pathlib import Path

import yaml
from safetensors import SafetensorError

from pool.errors import StudyError
from pool.files.whole import new_folder, write_text
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.base_units import cut_into_units
from pool.tokens.preparing import read_text
from pool.tokens.tokenizer import load_tokenizer
from studies.opened.on_pool import Workbench
from studies.outcome.handover.interleave import interleave_script
from studies.outcome.handover.mergekit_files import METHODS, mergekit_yaml
from studies.outcome.handover.olmo import olmix_yaml, olmo_core_yaml
from studies.outcome.handover.plan import HandoverPlan, make_plan
from studies.terminal import json_text

TEXT = "text"


def run_handover(
    bench: Workbench, mixture: Mixture, folder: Path, *, tokens: int, token_files: str, with_text: bool
) -> HandoverPlan:
    """Write every form of the mixture for a training run of `tokens` tokens, and return the plan.

    With `with_text`, the training documents of the partitions used as JSONL; a demo corpus has no other files. Raises
    `StudyError` when the folder exists and is not empty or cannot be written, and `CorpusError` for text that is gone.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} exists and is not empty; name a new folder")
    pool = bench.pool.by_units()
    groups, by_units = bench.pool.groups, bench.pool.unit_mixture(mixture)
    plan = make_plan(bench.config.name, pool, by_units, tokens)
    with_text = with_text or pool.config.corpus.source == "demo"
    text_folder = folder.resolve() / TEXT if with_text else None
    array = bench.proxy.rule.weights(mixture.over(bench.stacked.names).array)
    by_name = dict(zip(bench.stacked.names, array.tolist(), strict=True))
    weights = {unit: by_name[name] / len(some) for name, some in groups.items() for unit in some} or by_name
    files = {
        "mixture.json": json_text(plan.as_json()) + "\n",
        "mixture.yaml": yaml.safe_dump(plan.as_json(), sort_keys=False),
        "interleave.py": interleave_script(plan, pool, text_folder),
        "olmo_core.yaml": olmo_core_yaml(plan, token_files),
        "olmix.yaml": olmix_yaml(plan, token_files),
    }
    files |= {f"mergekit_{method}.yaml": mergekit_yaml(pool, by_units, weights, method) for method in METHODS}
    try:
        with new_folder(folder.resolve()) as new:
            for name, text in files.items():
                write_text(new / name, text)
            if with_text:
                _write_text(pool, plan, new / TEXT)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StudyError(f"{folder}: cannot write there: {reason}") from None
    return plan


def _write_text(pool: Pool, plan: HandoverPlan, folder: Path) -> None:
    folder.mkdir()
    text, tokenizer = read_text(pool.config.corpus).corpus, load_tokenizer(pool.folder / "tokenizer")
    corpus, _ = cut_into_units(text, tokenizer, pool.config.corpus.base_units_tokens)
    for name in plan.used:
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            for document in corpus.partitions[name]:
                stream.write(json.dumps({"text": document}) + "\n")
