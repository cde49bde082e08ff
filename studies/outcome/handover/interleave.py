"""A Python file that draws the mixture with Hugging Face datasets, streamed."""

import json
from pathlib import Path

from pool.parts.store import Pool
from studies.outcome.handover.plan import HandoverPlan, sources_of

_BUILDERS = {"jsonl": "json", "text": "text", "parquet": "parquet"}


def interleave_script(plan: HandoverPlan, pool: Pool, text_folder: Path | None) -> str:
    """Return the source of a module with a streamed dataset `mixture`, which runs on its own."""
    rows = []
    for name, share in plan.used.items():
        files, format_, column = sources_of(pool, name, text_folder)
        row = {"share": share.document_share, "builder": _BUILDERS[format_], "column": column, "files": files}
        rows.append(f"    {json.dumps(name)}: {json.dumps(row)},")
    warning = (
        ""
        if text_folder is not None
        else """
These are the files that the pool was built from: they also hold the documents that were kept out of training to judge
mixtures by. `mixscout handover --text` hands over the training documents alone.
"""
    )
    return _TEMPLATE.format(
        study=plan.study, tokens=plan.tokens, documents=plan.documents, sources="\n".join(rows), warning=warning
    )


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
