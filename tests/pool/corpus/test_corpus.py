"""Promises of the corpus: no duplicates, no overlap, splits by document."""

import importlib.metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.config.pool_file import HeldOutSize
from pool.corpus.corpus import SPLITS, Corpus, all_copies, more_text
from pool.corpus.corpus import make_corpus as make_corpus_in
from pool.corpus.document_store import DocumentStore
from pool.corpus.files import (
    DEMO_PACKAGES,
    HELD_OUT_DOMAIN,
    demo_held_out,
    demo_partitions,
    demo_source_versions,
    read_distributions,
)
from pool.errors import CorpusError

texts = st.lists(st.text(min_size=1, max_size=5).filter(str.strip), min_size=30, max_size=60)


def make_corpus(partitions, held_out, *, held_out_share: float = 0.0, documents: int | None = None) -> Corpus:
    kept_out = HeldOutSize(held_out_share, documents)
    return make_corpus_in(partitions, held_out, kept_out=kept_out, store=DocumentStore())


def _texts(corpus: Corpus) -> dict[str, list[str]]:
    splits = {f"{name} {split}": list(corpus.held_out[name][split]) for name in corpus.held_out for split in SPLITS}
    return {**{name: list(documents) for name, documents in corpus.partitions.items()}, **splits}


@given(texts, texts)
def test_every_different_document_stands_in_exactly_one_place(first: list[str], second: list[str]) -> None:
    first = [*first, *(f"a{i}" for i in range(20))]
    second = [*second, *(f"b{i}" for i in range(20))]
    corpus = make_corpus({"a": first, "b": second}, {}, held_out_share=0.3)
    places = [*corpus.partitions.values()] + [corpus.held_out[name][split] for name in "ab" for split in SPLITS]
    everything = [text for place in places for text in place]
    assert sorted(everything) == sorted(set(first) | set(second))


def test_splits_do_not_depend_on_the_order_of_documents() -> None:
    documents = [f"document {i}" for i in range(50)]
    forward = make_corpus({"a": documents}, {}, held_out_share=0.2)
    backward = make_corpus({"a": reversed(documents)}, {}, held_out_share=0.2)
    assert _texts(forward) == _texts(backward)
    assert len(forward.held_out["a"]["search"]) == len(forward.held_out["a"]["test"]) == 5


def test_a_held_out_document_that_is_also_training_text_is_refused_by_name() -> None:
    with pytest.raises(CorpusError, match=r"is in partition 'a' and in held-out domain 'h'.*the same text"):
        make_corpus({"a": ["the same text", "x", "y"]}, {"h": ["the same text", "z"]}, held_out_share=0)


def test_a_document_in_two_held_out_domains_is_refused_whatever_the_splits() -> None:
    for number in range(20):
        with pytest.raises(CorpusError, match="and in held-out domain 'i'"):
            make_corpus({"a": ["x"]}, {"h": ["1", f"t{number}"], "i": ["2", f"t{number}"]}, held_out_share=0)
        with pytest.raises(CorpusError, match="and in held-out domain 'h'"):
            texts = [f"t{other}" for other in range(20)]
            make_corpus({"a": texts}, {"h": ["1", f"t{number}"]}, held_out_share=0.5)


def test_a_number_of_documents_may_be_kept_out_instead_of_a_share() -> None:
    corpus = make_corpus({"a": [f"document {i}" for i in range(50)], "b": ["1", "2", "3"]}, {}, documents=2)
    assert {name: len(found) for name, found in _texts(corpus).items()} == {
        "a": 48,
        "a search": 1,
        "a test": 1,
        "b": 1,
        "b search": 1,
        "b test": 1,
    }


def test_what_has_no_text_is_refused_by_name() -> None:
    with pytest.raises(CorpusError, match="partition 'a' has no training text"):
        make_corpus({"a": ["  "]}, {"h": ["x", "y"]}, held_out_share=0)
    with pytest.raises(CorpusError, match="b: all 2 documents are duplicates of documents of partition 'a'"):
        make_corpus({"a": ["x", "y"], "b": ["y", "x"]}, {"h": ["1", "2"]}, held_out_share=0)
    with pytest.raises(
        CorpusError, match="'a' has no training text; its 2 documents are all held out: add text, or lo"
    ):
        make_corpus({"a": ["x", "y"]}, {}, documents=2)
    with pytest.raises(CorpusError, match="'h' has no documents in its test split"):
        make_corpus({"a": ["x"]}, {"h": ["y"]}, held_out_share=0)
    with pytest.raises(CorpusError, match="no held-out domain"):
        make_corpus({"a": ["x"]}, {}, held_out_share=0)


def test_copies_are_left_out_and_said_with_their_number_and_where_the_first_stands() -> None:
    first = [f"document {i}" for i in range(20)]
    given = {"a": first, "b": [*first[:19], "own", *["again"] * 3, "other"], "c": ["c1", "c2", "c3"]}
    corpus = make_corpus(given, {"h": ["h1", "h1", "h2"]}, documents=2)
    store = corpus.partitions["a"].store
    assert all_copies(store) == [
        "21 of the 24 documents of partition 'b' are copies, left out (19 of partition 'a', 2 of its own)",
        "1 of the 3 documents of held-out domain 'h' is a copy, left out (1 of its own)",
    ]
    assert more_text(corpus.partitions["b"]).endswith("give it text of its own")
    assert more_text(corpus.partitions["c"]) == "add text"
    store.rename("partition 'b'", "partition 'web-b'")
    assert all_copies(store)[0].startswith("21 of the 24 documents of partition 'web-b' are copies")


def test_places_with_few_copies_are_said_together() -> None:
    corpus = make_corpus({f"p{i}": [*[f"x{i}"] * (i + 2), f"y{i}"] for i in range(6)}, {"h": ["1", "2"]})
    assert len(all_copies(corpus.partitions["p0"].store)) == 4
    assert all_copies(corpus.partitions["p0"].store)[-1] == "6 copies in 3 more places are left out, too"
    corpus = make_corpus(
        {f"p{i}": [*["x" + str(i)] * (2 if i < 3 else 3), f"y{i}"] for i in range(4)}, {"h": ["1", "2"]}
    )
    assert all_copies(corpus.partitions["p0"].store)[-1] == "1 copy in 1 more place is left out, too"


def test_text_that_copies_make_too_little_is_refused_with_what_they_are_copies_of() -> None:
    first = [f"document {i}" for i in range(20)]
    said = (
        r"'b' has no documents in its test split: .*; 19 of the 24 documents of partition 'b' are copies, left out \(19"
    )
    with pytest.raises(
        CorpusError, match=said + r" of partition 'a'\); give it text .*, or set held_out_documents = 2$"
    ):
        make_corpus({"a": first, "b": [*first[:19], *"vwxyz"]}, {}, held_out_share=0.1)
    with pytest.raises(CorpusError, match=r"2 of the 3 documents of held-out domain 'h' are copies.*\(2 of its own\)"):
        make_corpus({"a": first}, {"h": ["z", "z", "z"]})
    with pytest.raises(CorpusError, match=r"no training text; 19 of the 20 documents of partition 'b' are copies"):
        make_corpus({"a": first, "b": [*first[:19], "z"]}, {}, documents=2)


def test_the_demo_corpus_is_real_text_of_eight_kinds_and_one_that_none_covers() -> None:
    partitions, held_out = demo_partitions(), demo_held_out()
    assert len(partitions) >= 8
    assert HELD_OUT_DOMAIN not in partitions
    corpus = make_corpus(partitions, held_out, held_out_share=0.1)
    sizes = {name: sum(map(len, documents)) for name, documents in corpus.partitions.items()}
    assert min(sizes.values()) > 500_000
    assert "torch" in demo_source_versions()


def test_the_demo_corpus_reads_packages_of_a_fixed_list_whatever_is_installed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = demo_source_versions()
    later = tmp_path / "later-1.0.dist-info"
    later.mkdir()
    (later / "METADATA").write_text("Metadata-Version: 2.4\nName: later\nVersion: 1.0\nLicense: as long as you like\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.metadata.version("later") == "1.0"
    assert demo_source_versions() == before


def test_the_packages_that_the_demo_reads_are_pinned() -> None:
    constraints = Path(__file__).parents[3] / "constraints.txt"
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in constraints.read_text().splitlines()}
    assert set(DEMO_PACKAGES) <= pinned
    assert [one.name.lower().replace("_", "-") for one in read_distributions()] == list(DEMO_PACKAGES)
