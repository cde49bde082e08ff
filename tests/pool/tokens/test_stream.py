"""Promises of packing: memory stays the same as a corpus grows, processes change nothing, nothing is left behind."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tiny import edit, snapshot

from pool.building.build import build_pool
from pool.config.pool_file import PoolFile, read_pool_file
from pool.corpus.document_store import DocumentStore
from pool.errors import CorpusError
from pool.files.digests import digest_arrays
from pool.tokens import stream
from pool.tokens.stream import StreamLimits, digest_stream, training_stream
from pool.tokens.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[3]
GROWTH_MEGABYTES = 20
"""Ten times the text is 23 MB more of it, and 13 MB more of tokens: either one kept in memory would be seen."""


def _packed(megabytes: int, folder: Path) -> dict[str, float]:
    folder.mkdir()
    command = [sys.executable, ROOT / "tests/support/measuring/packed_memory.py", str(megabytes), folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_stays_flat_while_a_corpus_grows_tenfold(tmp_path: Path) -> None:
    small, large = _packed(3, tmp_path / "small"), _packed(30, tmp_path / "large")
    assert large["tokens"] > 9 * small["tokens"] > 0
    assert large["bytes"] - small["bytes"] > GROWTH_MEGABYTES * 1e6
    assert large["peak"] - small["peak"] < GROWTH_MEGABYTES


def test_several_processes_write_the_same_stream_as_one(
    tiny_config: PoolFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_config.folder / "tokenizer")
    texts = [f"document {number}: naïve — 漢字 🙂 " * (number % 7 + 1) for number in range(1500)]
    limits = StreamLimits(40_000, 32, sum(len(text.encode()) for text in texts))
    one = training_stream("p", texts, tokenizer, limits, tmp_path / "one.npy")
    monkeypatch.setattr(stream, "_BYTES_A_PROCESS", 1_000)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    two = training_stream("p", texts, tokenizer, limits, tmp_path / "two.npy")
    assert (one.bytes, one.documents) == (two.bytes, two.documents)
    assert len(one.tokens) > 39_990 and np.array_equal(one.tokens, two.tokens)
    assert digest_stream(tmp_path / "one.npy") == digest_arrays([np.load(tmp_path / "two.npy")])


def test_a_store_gives_back_what_it_was_given_once_in_an_order_of_its_own_and_leaves_no_file(tmp_path: Path) -> None:
    texts = [f"text {number} \ud800" for number in range(5000)]
    store = DocumentStore(tmp_path)
    assert {store.add("a", text) for text in texts} == {"a"}
    assert store.add("b", texts[7]) == "a", "it is there already, in another place"
    found = list(store.documents("a"))
    assert found != texts and sorted(found) == sorted(texts) and len(store.documents("a")) == 5000
    store.reassign("a", lambda page: ["b" if size % 2 else "a" for size in page.bytes])
    assert sorted([*store.documents("a"), *store.documents("b")]) == sorted(texts)
    assert list(tmp_path.iterdir()) == [], "its files have no names: a kill leaves nothing behind"


def test_a_full_disk_while_the_text_is_read_is_one_clear_error_and_leaves_the_pool_as_it_was(root: Path) -> None:
    edit(root / "pool.toml", "train_tokens = 30_000", "train_tokens = 29_000")
    before = snapshot(root)
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
sys.argv = ["mixscout", "pool", "build", {str(root / "pool.toml")!r}, "--rebuild", "all"]
from studies.command_line.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert last.startswith("mixscout: pool 'tiny': cannot write") and "run the same command again" in last
    assert snapshot(root) == before


def test_a_hub_data_set_that_cannot_be_reached_leaves_the_pool_as_it_was(root: Path, offline: None) -> None:
    edit(root / "pool.toml", 'files = ["prose.txt"]\nformat = "text"', f'hub = "owner/name"\nrevision = "{"0" * 40}"')
    before = snapshot(root)
    with pytest.raises(CorpusError, match="prose: hub data set 'owner/name' at 0+ is not in the local cache"):
        build_pool(read_pool_file(root / "pool.toml"), ["all"])
    assert snapshot(root) == before


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("code.jsonl", lambda content: b"", "code.jsonl is empty"),
        ("code.jsonl", lambda content: content.replace(b'"source"', b'"body"'), "no column 'source'; it has body"),
        ("code.jsonl", lambda content: b"\x1f\x8b\x08" + content, "code.jsonl cannot be read as jsonl"),
        ("prose.txt", lambda content: zstandard.compress(content)[:-9], "prose.txt.zst ends in the middle"),
        ("code.jsonl", lambda content: gzip.compress(content)[:-9], "code.jsonl.gz cannot be read as jsonl"),
        ("docs.parquet", lambda content: content[: len(content) // 2], "docs.parquet cannot be read as parquet"),
    ],
)
def test_text_that_went_bad_is_refused_by_name_and_leaves_the_pool_as_it_was(
    root: Path, name: str, damage, message: str
) -> None:
    damaged = damage((root / name).read_bytes())
    for suffix in (".zst", ".gz"):
        if f"{name}{suffix}" in message:
            edit(root / "pool.toml", f'"{name}"', f'"{name}{suffix}"')
            name += suffix
    (root / name).write_bytes(damaged)
    before = snapshot(root)
    with pytest.raises(CorpusError, match=message) as caught:
        build_pool(read_pool_file(root / "pool.toml"), ["all"])
    assert "\n" not in str(caught.value)
    assert snapshot(root) == before
