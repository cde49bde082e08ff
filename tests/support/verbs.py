"""Every verb of the application, found in the application itself, with arguments for a small root."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import click
import typer
from forked import Forks
from small_table import small_table
from tiny import edit

from objectives.stand_ins.swarm_table import write_swarm
from studies.command_line.app import app

ENTRIES = {
    "demo": "--root NEW",
    "pool build": "POOL",
    "pool add": "POOL docs --checkpoint GIVEN --replace",
    "pool show": "POOL",
    "pool check": "POOL --points 1 --pairs 1 --output NEW",
    "pool overlap": "POOL",
    "pool units": "GROUPED --macro",
    "search": "STUDY --merges 7",
    "worker": "STUDY --merges 8",
    "best": "STUDY",
    "robustness": "STUDY",
    "ages": "AGED --merges 3 --output NEW",
    "confirm": "STUDY",
    "samples": "STUDY --prompts 1 --output NEW",
    "rate": "STUDY RATED --key KEY",
    "fidelity": "STUDY --mixtures 6 --output NEW",
    "predict": "STUDY",
    "ablate": "STUDY --output NEW",
    "compare": "STUDY SECOND --output NEW",
    "export": "STUDY NEW",
    "distill": "STUDY --tokens 256 --orders 2",
    "table": "STUDY NEW",
    "handover": "STUDY NEW",
    "cost": "STUDY",
    "report": "STUDY --output NEW",
    "dashboard": "STUDY --port 0",
    "refine": "STUDY --truths 1",
    "prior": "STUDY",
    "bench search": "--entries random:4 --seeds 1 --partitions 3",
    "bench truths": "--truths 3 --seeds 1 --partitions 3",
    "bench gate": "--entries random:12 --seeds 1 --partitions 3",
    "bench proposals": "--strategies random --partitions 3 --trials 3 --repeats 1",
    "bench objective": "STUDY --repeats 1",
    "bench stopping": "STUDY --strategies random --seeds 1 --search-merges 8",
    "bench memory": "STUDY --mixtures 2 --repeats 1",
    "bench training": "POOL --steps 2 --repeats 1",
    "bench gpu": "--tiny",
    "bench surrogate": "--table TABLE --sizes 8 --subsets 1",
    "bench landscape": "STUDY --values 4 --gradients 3 --unseen 3",
}
"""Arguments by verb. Names in capitals are places of the root; NEW is free every time."""
REMEMBERING = ("ablate", "ages", "best", "confirm", "distill", "fidelity", "robustness")
"""Verbs that count what they merged or trained: nothing any more in a second run."""
_NUMBERS = count()


def all_verbs(command: click.Command | None = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every verb."""
    command = command or typer.main.get_command(app)
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words
    for name, one in (inner or {}).items():
        yield from all_verbs(one, (*words, name))


def prepare(root: Path, forked: Forks) -> None:
    """Add to a built root what the verbs' arguments name, and search all three studies."""
    (member,) = (root / "pools" / "tiny" / "members").glob("docs*")
    shutil.copytree(member, root / "given")
    shutil.copy(root / "study.toml", root / "second.toml")
    edit(root / "second.toml", 'name = "tiny"', 'name = "second"')
    edit(root / "second.toml", '"gradient"', '"random"')
    shutil.copytree(root, grouped := root / "grouped", ignore=shutil.ignore_patterns("given", "*.db*"))
    edit(grouped / "pool.toml", "[tokenizer]", '[corpus.groups]\ntext = ["docs", "prose"]\n\n[tokenizer]')
    assert forked.run("pool", "build", grouped / "pool.toml").code == 0, "no member is trained again"
    shutil.copytree(root, aged := root / "aged", ignore=shutil.ignore_patterns("given", "grouped", "*.db*"))
    edit(aged / "pool.toml", "tokens = 6_000", "tokens = 800\nkeep_every_steps = 1")
    assert forked.run("pool", "build", aged / "pool.toml", "--all-members").code == 0
    write_swarm(small_table(), root / "swarm")
    for study in ("STUDY", "SECOND", "AGED"):
        assert forked.run(*words_of(f"search {study} --merges 6", root, root)).code == 0
    assert forked.run("samples", root / "study.toml", "--prompts", "1", "--output", root / "rated").code == 0
    table = root / "rated" / "tiny.samples.csv"
    scores = count()
    table.write_text(re.sub(r",$", lambda end: f",{next(scores) % 3}", table.read_text(), flags=re.MULTILINE))


def words_of(line: str, root: Path, new: Path) -> list[str]:
    """Return the words of a command line, or of the verb named by it, with places of a root for names in capitals."""
    places = {
        "POOL": root / "pool.toml",
        "STUDY": root / "study.toml",
        "SECOND": root / "second.toml",
        "GROUPED": root / "grouped" / "pool.toml",
        "AGED": root / "aged" / "study.toml",
        "GIVEN": root / "given",
        "TABLE": root / "swarm",
        "RATED": root / "rated" / "tiny.samples.csv",
        "KEY": root / "rated" / "tiny.samples.json",
        "NEW": new / str(next(_NUMBERS)),
    }
    words = f"{line} {ENTRIES[line]}" if line in ENTRIES else line
    return [str(places.get(word, word)) for word in words.split()]
