"""Promises of splitting one source: by a column or by topic, nothing lost, names that are safe, the same every time."""

import json
from datetime import date
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pool.config.pool_file import read_pool_file
from pool.config.sources import PartitionSource
from pool.corpus import partitioning
from pool.corpus.corpus import training_place
from pool.corpus.document_store import DocumentStore
from pool.corpus.partitioning import fill_partitions, safe_names
from pool.errors import ConfigError, CorpusError
from pool.files.names import Name
from pool.parts.layout import member_folder
from pool.tokens.preparing import read_text


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _split(path: Path, **options: object) -> dict[str, list[str]]:
    store = DocumentStore()
    filled = fill_partitions(store, {"n": PartitionSource(files=(path,), **options)})
    return {name: sorted(store.documents(training_place(name))) for name in filled["n"].partitions}


ROWS = [{"text": f"{topic} {number}", "topic": topic} for topic in ("math", "a/b", "Zoë") for number in range(4)]
ROWS += [{"text": "one more of math", "topic": "math"}, {"text": "nothing", "topic": None}]


def test_a_column_s_values_become_partitions_with_safe_names_and_nothing_is_lost(tmp_path: Path) -> None:
    found = _split(_write(tmp_path / "a.jsonl", ROWS), partition_by="topic")
    assert set(found) == {"n-math", "n-a-b", "n-Zoe", "n-missing"}
    assert found["n-a-b"] == [f"a/b {number}" for number in range(4)]
    assert sorted(text for texts in found.values() for text in texts) == sorted(str(row["text"]) for row in ROWS)


def test_the_smallest_are_merged_or_refused_where_there_are_too_many(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    found = _split(path, partition_by="topic", max_partitions=2, rest="merge")
    assert {name: len(texts) for name, texts in found.items()} == {"n-math": 5, "n-other": 9}
    with pytest.raises(CorpusError, match="n: column 'topic' has 4 different values, more than max_partitions 3"):
        _split(path, partition_by="topic", max_partitions=3)


def test_a_column_that_names_documents_or_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(CorpusError, match="no column 'kind'; it has text, topic: set `partition_by`"):
        _split(path, partition_by="kind")
    monkeypatch.setattr(partitioning, "MOST_VALUES", 5)
    with pytest.raises(CorpusError, match="n: column 'text' has more than 5 different values; name a coarser one"):
        _split(path, partition_by="text")
    with pytest.raises(CorpusError, match="column 'topic' holds list, which names no partition"):
        _split(_write(tmp_path / "b.jsonl", [{"text": "x", "topic": ["y"]}]), partition_by="topic")


def test_a_date_names_a_partition_as_it_is_written(tmp_path: Path) -> None:
    rows = [{"text": f"2024-01-0{day}", "day": f"2024-01-0{day}"} for day in (1, 2)]
    days = {"n-2024-01-01": ["2024-01-01"], "n-2024-01-02": ["2024-01-02"]}
    assert _split(_write(tmp_path / "a.jsonl", rows), partition_by="day") == days
    typed = datasets.Dataset.from_list([{**row, "day": date.fromisoformat(row["day"])} for row in rows])
    typed.to_parquet(str(tmp_path / "a.parquet"))
    assert _split(tmp_path / "a.parquet", partition_by="day", format="parquet") == days


def test_a_column_that_only_some_rows_have_splits_these(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": "two", "topic": None}, {"text": "three", "topic": 3}]
    found = _split(_write(tmp_path / "a.jsonl", rows), partition_by="topic")
    assert found == {"n-3": ["three"], "n-missing": ["one", "two"]}


@given(st.sets(st.text(max_size=120), min_size=1, max_size=20), st.integers(1, 60))
def test_names_are_safe_short_enough_and_all_different_whatever_the_values(values: set[str], length: int) -> None:
    named = safe_names("p" * length, sorted(values))
    assert len({name.lower() for name in named.values()}) == len(values)
    for name in named.values():
        TypeAdapter(Name).validate_python(name)


def test_a_partition_that_two_tables_would_give_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", ROWS)
    tables = {"n": PartitionSource(files=(path,), partition_by="topic"), "n-math": PartitionSource(files=(path,))}
    with pytest.raises(CorpusError, match="n: it is split into 'n-math', and there is a partition of that name"):
        fill_partitions(DocumentStore(), tables)


@pytest.mark.parametrize("options", [{}, {"cluster": {"k": 500}}, {"partition_by": "topic"}])
def test_a_table_whose_documents_all_stand_in_earlier_ones_is_refused_with_these(tmp_path: Path, options: dict) -> None:
    first, second = _write(tmp_path / "a.jsonl", ROWS[:5]), _write(tmp_path / "b.jsonl", ROWS[5:])
    both = PartitionSource(files=(second, first), **options)
    tables = {"a": PartitionSource(files=(first,)), "b": PartitionSource(files=(second,)), "again": both}
    with pytest.raises(
        CorpusError,
        match="again: all 14 documents are duplicates of documents of partition 'b', partition 'a'; a document "
        "stands in the first partition alone, so give it other files, or take one of them away",
    ):
        fill_partitions(DocumentStore(), tables)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", ".."])
def test_a_partition_whose_name_is_a_path_keeps_its_files_in_the_pool(tmp_path: Path, name: str) -> None:
    (tmp_path / "pool.toml").write_text(f'name = "x"\n[corpus.partitions."{name}"]\nfiles = ["f"]\n')
    (kept,) = read_pool_file(tmp_path / "pool.toml").corpus.partitions
    assert kept == name and member_folder(tmp_path, name).resolve().parent == tmp_path.resolve() / "members"


def test_a_partition_without_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('name = "x"\n[corpus.partitions.""]\nfiles = ["f"]\n')
    with pytest.raises(ConfigError, match=r"corpus\.partitions"):
        read_pool_file(tmp_path / "pool.toml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition_by": "a", "cluster": {"k": 2}}, "keep one"),
        ({"partition_by": "a", "format": "text"}, "plain text has none"),
        ({"max_partitions": 3}, "does nothing without partition_by"),
        ({"partition_by": "a", "rest": "merge"}, "does nothing without max_partitions"),
        ({"cluster": {"k": 1}}, "greater than or equal to 2"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PartitionSource(files=("a",), **options)


def test_topics_keep_code_and_prose_apart_have_telling_names_and_are_the_same_again(mixed: Path) -> None:
    kinds = {row["text"]: row["kind"] for row in map(json.loads, mixed.open())}
    found = _split(mixed, cluster={"k": 2})
    assert sum(map(len, found.values())) == len(kinds) and len(found) == 2
    shares = sorted(sum(kinds[text] == "code" for text in texts) / len(texts) for texts in found.values())
    assert shares[0] < 0.1 and shares[1] > 0.9
    assert any({"self", "def", "return"} & set(name.split("-")) for name in found)
    assert _split(mixed, cluster={"k": 2}) == found
    of_a_sample = _split(mixed, cluster={"k": 2, "sample_documents": 60})
    assert sum(map(len, of_a_sample.values())) == len(kinds), "documents outside the sample have a topic too"


def test_fewer_documents_than_topics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"n: 14 documents cannot be split into 20 clusters; lower cluster\.k"):
        _split(_write(tmp_path / "a.jsonl", ROWS), cluster={"k": 20})
    with pytest.raises(CorpusError, match="n: cannot be split by topic: "):
        _split(_write(tmp_path / "b.jsonl", [{"text": str(number)} for number in range(9)]), cluster={"k": 2})


def test_every_partition_of_a_split_source_has_a_held_out_domain_of_its_own(tmp_path: Path) -> None:
    rows = [{"text": f"{topic} {number}", "topic": topic} for topic in "ab" for number in range(20)]
    _write(tmp_path / "a.jsonl", rows)
    (tmp_path / "pool.toml").write_text(
        'name = "x"\n[corpus]\nheld_out_documents = 4\n[corpus.partitions.n]\n'
        'files = ["a.jsonl"]\npartition_by = "topic"\n'
    )
    corpus = read_text(read_pool_file(tmp_path / "pool.toml").corpus).corpus
    assert list(corpus.partitions) == list(corpus.held_out) == ["n-a", "n-b"]
    assert len(corpus.partitions["n-a"]) == 16
