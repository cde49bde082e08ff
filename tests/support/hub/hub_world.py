"""A hub on loopback with a model and data sets published on it, pool files that name them, and two clients."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import datasets
from given import name_seed, write_foreign
from hub_client import HubClient, Ran
from local_hub import LocalHub
from tiny import edit, write_sources

DOCS = 'files = ["docs.parquet"]\nformat = "parquet"'
LICENCES = 'files = ["licences.jsonl"]'
CARD = """---
configs:
- config_name: numbers
  data_files:
  - {split: train, path: data/train-*.parquet}
  - {split: test, path: data/test.parquet}
- config_name: others
  data_files: others.jsonl
---
Documents about numbers.
"""
CODE = "raise SystemExit('code of others was run')\n"
NOWHERE = "0" * 40


class World:
    """The hub, what was published on it at first, and a client with a network and one without."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts = folder / "texts"
        self.texts.mkdir()
        write_sources(self.texts)
        self.hub = LocalHub()
        self.asked_first: list[str] = []
        self.online = HubClient(self.hub.endpoint, folder)
        self.offline = HubClient(self.hub.endpoint, folder, offline=True)
        self.seed = self.hub.publish("models", "owner/seed", self._seed(), "v1.0")
        self.docs = self.hub.publish("datasets", "owner/docs", self._docs())
        self.lines = self.hub.publish("datasets", "owner/lines", self._lines())

    def _seed(self) -> Path:
        folder = self.folder / "seed"
        write_foreign(folder, [(self.texts / "prose.txt").read_text()], tied=False)
        (folder / "pytorch_model.bin").write_bytes(b"a pickle")
        (folder / "modeling_seed.py").write_text(CODE)
        (folder / "onnx").mkdir()
        shutil.copy(folder / "model.safetensors", folder / "onnx")
        return folder

    def _docs(self) -> Path:
        """Two shards of the documents, another split, another subset, and a loading script."""
        folder = self.folder / "docs"
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text(CARD)
        (folder / "docs.py").write_text(CODE)
        whole = datasets.Dataset.from_parquet(str(self.texts / "docs.parquet"), cache_dir=str(self.folder / "arrow"))
        for number in range(2):
            whole.shard(2, number).to_parquet(folder / "data" / f"train-0000{number}-of-00002.parquet")
        whole.select([0]).to_parquet(folder / "data" / "test.parquet")
        (folder / "others.jsonl").write_text('{"text": "other"}\n')
        return folder

    def _lines(self) -> Path:
        folder = self.folder / "lines"
        folder.mkdir()
        packed = gzip.compress((self.texts / "licences.jsonl").read_bytes(), mtime=0)
        (folder / "licences.jsonl.gz").write_bytes(packed)
        (folder / "lines.py").write_text(CODE)
        (folder / "lines.pkl").write_bytes(b"a pickle")
        return folder

    def pool(self, name: str, *, seed: str = "", docs: str = DOCS, licences: str = LICENCES) -> Path:
        """Write a pool file beside sources of its own: a seed, a partition and a held-out domain from elsewhere."""
        root = self.folder / "roots" / name
        shutil.copytree(self.texts, root)
        if seed:
            name_seed(root / "pool.toml", f"{seed}\ncontext = 32")
        edit(root / "pool.toml", DOCS, docs)
        edit(root / "pool.toml", LICENCES, licences)
        return root / "pool.toml"

    def variant(self, name: str, of: str) -> Path:
        """Copy a published folder, to be changed."""
        shutil.copytree(self.folder / of, self.folder / name)
        return self.folder / name

    def cached(self) -> set[str]:
        """Name every file in the hub's cache."""
        return {path.name for path in (self.folder / "home" / "hub").rglob("*")}

    def close(self) -> None:
        """Stop the server and both clients."""
        self.online.close()
        self.offline.close()
        self.hub.close()


def at(name: str, revision: str, *more: str) -> str:
    """Write the lines of a table that name something of the hub."""
    return "\n".join([f'hub = "{name}"', f'revision = "{revision}"', *more])


def manifest(ran: Ran) -> dict:
    """Read the manifest that a command printed; it has to have ended well."""
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def contents(pool: dict) -> dict:
    """All of a pool's digests, but for the one of where its text was."""
    corpus = {key: pool["corpus"][key] for key in ("partitions", "search", "test", "tokenizer_digest")}
    members = {name: member["weights_digest"] for name, member in pool["members"].items()}
    return {**corpus, "seed": pool["seed"]["weights_digest"], "members": members}


def refused(ran: Ran, message: str) -> None:
    """Check that a command said what is wrong in one line, after at most what it was doing."""
    *before, line = ran.err.splitlines()
    doing = re.compile(r"corpus: reading text|owner/\w+: files of \d+\.\d MB: \d+/\d+.*")
    assert ran.code == 1 and all(doing.fullmatch(one) for one in before), ran.err
    assert re.search(message, line) and line.startswith("mixscout: "), line
