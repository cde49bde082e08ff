"""Promises about documents that partitions share: a member whose text moved is refused with why, and with a way out."""

import json
from pathlib import Path

import pytest
from tiny import edit, snapshot

from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file
from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.errors import PoolMismatchError
from pool.parts.provenance import describe_moves

PROSE = '[corpus.partitions.prose]\nfiles = ["prose.txt"]\nformat = "text"\n'
MORE = '[corpus.partitions.more]\nfiles = ["more.jsonl"]\n'
ALONE = "A document that several partitions have stands in the first of them alone: what others share with "


@pytest.fixture
def sharing(root: Path) -> Path:
    """The built pool with one partition more, the last, which shares documents with `prose`."""
    prose = list(read_documents("prose", TextSource(files=(root / "prose.txt",), format="text")))
    own = [f"{number}: {text}" for number, text in enumerate(prose[:30])]
    (root / "more.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*prose[:30], *own]))
    edit(root / "pool.toml", PROSE, PROSE + MORE)
    build_pool(read_pool_file(root / "pool.toml"))
    return root


def _refused(root: Path) -> str:
    before = snapshot(root)
    with pytest.raises(PoolMismatchError) as caught:
        build_pool(read_pool_file(root / "pool.toml"))
    assert snapshot(root) == before and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_partition_that_goes_leaves_what_it_shared_to_others_and_the_refusal_says_so(sharing: Path) -> None:
    edit(sharing / "pool.toml", PROSE, "")
    said = _refused(sharing)
    assert said.startswith("member 'more' was trained before a change of the training text of 'more' (")
    assert f"{ALONE}'prose', gone since, is theirs now (put it back). Rebuild with" in said
    assert said.endswith("--rebuild more`, or give the pool another name")
    edit(sharing / "pool.toml", MORE, PROSE + MORE)
    build_pool(read_pool_file(sharing / "pool.toml"))


def test_a_partition_that_comes_before_others_takes_what_they_share_and_the_refusal_says_so(sharing: Path) -> None:
    lines = (sharing / "more.jsonl").read_text().splitlines()
    (sharing / "new.jsonl").write_text("\n".join(lines[:30]))
    edit(sharing / "pool.toml", PROSE, MORE.replace("more", "new") + PROSE)
    said = _refused(sharing)
    assert "member 'prose' was trained before" in said
    assert f"{ALONE}'new', which came before them, is theirs no longer (put it last). Rebuild" in said


def test_partitions_that_changed_places_are_said_to_have(sharing: Path) -> None:
    edit(sharing / "pool.toml", PROSE + MORE, MORE + PROSE)
    assert "in the first of them alone: partitions changed places (put them back). Rebuild" in _refused(sharing)


def test_nothing_is_said_of_partitions_where_no_text_has_changed() -> None:
    changed = {"a": ["recipe.tokens 1 -> 2"]}
    assert describe_moves(changed, ("a", "b"), ("a",)) == ""
    assert describe_moves({"a": ["the training text of 'a' (1 -> 2)"]}, ("a", "b"), ("a", "b", "c")) == ""
