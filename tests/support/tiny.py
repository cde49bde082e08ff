"""The tiny pool's sources and files: three partitions of real text in three formats, one uncovered domain."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import datasets
import numpy

from pool.corpus.files import docstrings_of
from pool.parts.layout import COMMANDS_FILE

POOL_TOML = """
name = "tiny"

[corpus]
held_out_share = 0.2
train_tokens = 30_000
held_out_tokens = 600
held_out_document_tokens = 200

[corpus.partitions.code]
files = ["code.jsonl"]
column = "source"

[corpus.partitions.docs]
files = ["docs.parquet"]
format = "parquet"

[corpus.partitions.prose]
files = ["prose.txt"]
format = "text"

[corpus.held_out.licences]
files = ["licences.jsonl"]

[tokenizer]
vocabulary = 384
sample_bytes = 60_000

[model]
hidden_size = 32
layers = 2
attention_heads = 2
intermediate_size = 64
context = 32

[seed]
mixture = "proportional"

[seed.recipe]
tokens = 12_000
batch_windows = 8
learning_rate = 5e-3
warmup_share = 0.0
checkpoint_steps = 10

[recipe]
tokens = 6_000
batch_windows = 8
learning_rate = 3e-3
checkpoint_steps = 5
"""

STUDY_TOML = """
name = "tiny"
pool = "pool.toml"

[target]
licences = 0.6
prose = 0.4

[search]
strategy = "gradient"
merges = 12
start = ["uniform", "vertices"]

[gate]
min_evidence = 5
patience = 25
"""


def write_sources(folder: Path) -> None:
    """Write real text in each of the three formats, and the two TOML files."""
    source = Path(json.__file__).parent
    code = [path.read_text() for path in sorted(source.glob("*.py"))] + [Path(shutil.__file__).read_text()]
    rows = [{"source": part} for text in code for part in text.split("\n\n\n") if len(part) > 60]
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fromnumeric = Path(numpy.__file__).parent / "_core" / "fromnumeric.py"
    documents = [part for text in docstrings_of(fromnumeric.read_text()) for part in text.split("\n\n")]
    datasets.Dataset.from_dict({"text": documents}).to_parquet(str(folder / "docs.parquet"))
    (folder / "prose.txt").write_text("\n\n".join(text for _, text in sorted(topics.items())[:12]))
    licence = (Path(__file__).parents[2] / "LICENSE").read_text()
    lines = [{"text": part + " naïve — 漢字 🙂"} for part in licence.split("\n\n") if part.strip()]
    (folder / "licences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (folder / "pool.toml").write_text(POOL_TOML)
    (folder / "study.toml").write_text(STUDY_TOML)


def edit(path: Path, old: str, new: str) -> None:
    """Replace one passage of a file; fails when it is not there."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def rewrite_record(path: Path, change: Callable[[dict], object]) -> None:
    """Change a record as if it had been written so: without the digest of its old content."""
    content = json.loads(path.read_text())
    content.pop("record_digest")
    change(content)
    path.write_text(json.dumps(content))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder but for locks, open databases and ledgers, to compare before and after."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".db-wal", ".db-shm") and path.name != COMMANDS_FILE
    }
