"""The mixture as files for training stacks: Hugging Face datasets, OLMo-core, Olmix, mergekit.

OLMo-core's `SourceMixtureList` (olmo_core.data.source_mixture) holds sources with target ratios and repetitions.
Olmix holds sources under `data`, and weights under `mix`. Both count tokens and read files of their own tokenizer, so
paths are a pattern with a place for the partition's name.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from pool.config.pool_file import PoolFile
from pool.corpus.reading.source_files import paths_of
from pool.errors import StudyError
from pool.files.names import file_name
from studies.outcome.handover.plan import HandoverPlan

PLACE = "{partition}"
_BUILDERS = {"jsonl": "json", "text": "text", "parquet": "parquet"}

METHODS: dict[str, dict[str, object]] = {
    "linear": {},
    "task_arithmetic": {},
    "ties": {"density": 0.5},
    "dare_ties": {"density": 0.5},
}
"""mergekit's method -> parameters of each model beside its weight. `linear` is the merge that Mixscout scored."""
_ON_TASK_VECTORS = frozenset(METHODS) - {"linear"}


def interleave_script(plan: HandoverPlan, config: PoolFile, text_folder: Path | None) -> str:
    """Return a Python module with a streamed dataset `mixture`, from text handed over or the pool's own files.

    Raises `StudyError` for a partition without plain files of its own.
    """
    sources = {
        name: {"share": share.document_share, **_source(config, name, text_folder)} for name, share in plan.used.items()
    }
    return _TEMPLATE.format(
        study=plan.study.encode("unicode_escape").decode().replace('"', "'"),
        tokens=plan.tokens,
        documents=plan.documents,
        sources="\n".join(f"    {json.dumps(name)}: {json.dumps(source)}," for name, source in sources.items()),
        warning="" if text_folder else _WARNING,
    )


def _source(config: PoolFile, name: str, text_folder: Path | None) -> dict[str, object]:
    if text_folder is not None:
        return {"builder": "json", "column": "text", "files": [str(text_folder / f"{file_name(name)}.jsonl")]}
    section = config.corpus.partitions.get(name)
    if (
        section is None
        or section.is_split
        or section.hub is not None
        or section.format not in _BUILDERS
        or section.encoding is not None
        or section.column in ("messages", "conversations")
        or section.document != "paragraph"
    ):
        raise StudyError(f"the text of partition {name!r} has no plain files of its own: hand it over too, with --text")
    files = [str(path) for path in paths_of(name, section)]
    return {"builder": _BUILDERS[section.format], "column": section.text_column, "files": files}


_WARNING = """
These are the files that the pool was built from: they also hold the documents that were kept out of training to judge
mixtures by. `mixscout handover --text` hands over the training documents alone.
"""

_TEMPLATE = '''"""The best mixture of study {study}, about {tokens} tokens: a streamed dataset, `mixture`.

`share` is a partition's share of the documents, not of the tokens: it makes up for documents of different length, by
their mean length in the pool. A partition that is used up starts again.
{warning}"""

from datasets import interleave_datasets, load_dataset

SEED = 0
DOCUMENTS = {documents}
SOURCES = {{
{sources}
}}


def partition(builder, column, files):
    options = {{"sample_by": "paragraph"}} if builder == "text" else {{}}
    rows = load_dataset(builder, data_files=files, split="train", streaming=True, **options)
    return rows.select_columns([column]).rename_columns({{column: "text"}} if column != "text" else {{}}).repeat(None)


mixture = interleave_datasets(
    [partition(source["builder"], source["column"], source["files"]) for source in SOURCES.values()],
    probabilities=[source["share"] for source in SOURCES.values()],
    seed=SEED,
    stopping_strategy="first_exhausted",
).take(DOCUMENTS)

if __name__ == "__main__":
    for document in mixture.take(3):
        print(document["text"][:200])
'''


def olmo_core_yaml(plan: HandoverPlan, pattern: str) -> str:
    """Return a `SourceMixtureList`. Raises `StudyError` for a pattern without a place for the partition's name."""
    sources = [
        {
            "source_name": name,
            "target_ratio": share.weight,
            "paths": [_path(pattern, name)],
            "max_repetition_ratio": _repetitions(share.epochs),
            "max_source_fraction": 1.0,
        }
        for name, share in plan.used.items()
    ]
    return _yaml({"sources": sources})


def olmix_yaml(plan: HandoverPlan, pattern: str) -> str:
    """Return the parts `data` and `mix` of an Olmix launch file. Raises `StudyError` as `olmo_core_yaml` does."""
    sources = [{"name": name, "paths": [_path(pattern, name)]} for name in plan.used]
    mix = {
        name: {"weight": share.weight, "repetition_factor": _repetitions(share.epochs)}
        for name, share in plan.used.items()
    }
    return _yaml({"data": {"sources": sources}, "mix": mix})


def mergekit_yaml(seed: Path, members: Mapping[str, Path], weights: Mapping[str, float], method: str) -> str:
    """Return mergekit's configuration of one method for folders of `members` with merge weights by the study's rule.

    Methods on task vectors take the seed as their base. Normalisation is off: weights sum to one up to rounding.
    """
    models = [
        {"model": str(folder), "parameters": {"weight": weights[name], **METHODS[method]}}
        for name, folder in members.items()
        if weights[name] != 0
    ]
    base = {"base_model": str(seed)} if method in _ON_TASK_VECTORS else {}
    settings = {"models": models, "parameters": {"normalize": False}, "dtype": "float32"}
    return _yaml({"merge_method": method, **base, **settings})


def _repetitions(epochs: float) -> float:
    """Round up to hundredths, and to one at least: a limit just below the epochs needed would be refused."""
    return max(1.0, math.ceil(epochs * 100) / 100)


def _path(pattern: str, name: str) -> str:
    if PLACE not in pattern:
        raise StudyError(f"--token-files {pattern!r} names one place for all partitions: put {PLACE} into it")
    return pattern.replace(PLACE, file_name(name))


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False)
    return text
