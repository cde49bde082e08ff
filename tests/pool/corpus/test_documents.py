"""Promises of reading user text: every kind of source, and one clear error for each thing that can be wrong."""

import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.corpus.files import describe_source
from pool.errors import CorpusError
from pool.files.hub import Snapshot


def _read(path: Path, **options: str) -> list[str]:
    return list(read_documents("news", TextSource(files=(path,), **options)))


def test_jsonl_gzip_parquet_and_text_give_the_same_documents(tmp_path: Path) -> None:
    texts = ["eins — 一", "zwei\nZeilen", "drei"]
    rows = "".join(json.dumps({"body": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(rows)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write(rows)
    datasets.Dataset.from_dict({"body": texts}).to_parquet(str(tmp_path / "a.parquet"))
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    assert _read(tmp_path / "a.jsonl", column="body") == texts
    assert _read(tmp_path / "a.jsonl.gz", column="body") == texts
    assert _read(tmp_path / "a.parquet", format="parquet", column="body") == texts
    assert [text.strip() for text in _read(tmp_path / "a.txt", format="text")] == texts


def test_a_byte_order_mark_at_the_beginning_of_a_document_is_no_text(tmp_path: Path) -> None:
    rows = [{"text": "\ufeffone"}, {"text": "\ufeff"}, {"text": "two\ufeff three"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
    (tmp_path / "a.txt").write_text("one\n\ntwo\ufeff three", encoding="utf-8-sig")
    assert _read(tmp_path / "a.jsonl") == ["one", "two\ufeff three"]
    assert _read(tmp_path / "a.parquet", format="parquet") == ["one", "two\ufeff three"]
    assert _read(tmp_path / "a.txt", format="text", document="line")[0].strip() == "one"


def test_zstandard_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "compressed"}\n'))
    assert _read(tmp_path / "a.jsonl.zst") == ["compressed"]


@pytest.mark.parametrize("name", ["data[1].jsonl", "data?.jsonl", "data*.jsonl", "data 1.jsonl"])
def test_a_file_name_is_a_name_and_not_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / "data1.jsonl").write_text('{"text": "another file"}\n')
    (tmp_path / name).write_text('{"text": "this file"}\n')
    assert _read(tmp_path / name) == ["this file"]


def _saved(folder: Path, splits: bool = False) -> Path:
    rows = datasets.Dataset.from_dict({"text": ["one", "two"], "topic": ["x", "y"]})
    (datasets.DatasetDict({"train": rows, "test": rows.select([0])}) if splits else rows).save_to_disk(str(folder))
    return folder


def test_folders_of_save_to_disk_are_read_with_or_without_splits(tmp_path: Path) -> None:
    assert _read(_saved(tmp_path / "plain"), format="saved") == ["one", "two"]
    splits = _saved(tmp_path / "splits", splits=True)
    assert _read(splits, format="saved") == ["one", "two"]
    assert _read(splits, format="saved", split="test") == ["one"]
    with pytest.raises(CorpusError, match=r"splits has no split 'dev'; it has train, test"):
        _read(splits, format="saved", split="dev")
    with pytest.raises(CorpusError, match="no column 'body'; it has text, topic"):
        _read(splits, format="saved", column="body")


def test_plain_text_is_cut_into_paragraphs_lines_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n\nthree"))
    counts = {cut: len(_read(tmp_path / "a.txt.gz", format="text", document=cut)) for cut in ("paragraph", "file")}
    assert counts == {"paragraph": 2, "file": 1}
    assert _read(tmp_path / "a.txt.gz", format="text", document="line") == ["one", "two", "three"]


def test_a_pattern_stands_for_all_files_that_match_once_and_in_order(tmp_path: Path) -> None:
    for number in (2, 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.jsonl").write_text(f'{{"text": "{number}"}}\n')
    assert _read(tmp_path / "*" / "a.jsonl") == ["1", "2"]
    both = TextSource(files=(tmp_path / "1" / "a.jsonl", tmp_path / "**" / "*.jsonl"))
    assert list(read_documents("news", both)) == ["1", "2"]
    with pytest.raises(CorpusError, match=r"news: no file matches .*\*\.csv; correct `files`"):
        _read(tmp_path / "*.csv")


def test_the_digest_of_a_source_follows_what_its_files_hold_and_not_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "same"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "same"}\n')
    folder = _saved(tmp_path / "saved")

    def digest(path: Path, **options: str) -> object:
        return describe_source("news", TextSource(files=(path,), **options))

    assert digest(tmp_path / "a.jsonl") == digest(tmp_path / "b.jsonl")
    assert digest(tmp_path / "a.jsonl") != digest(tmp_path / "a.jsonl", column="body")
    before = digest(folder, format="saved")
    (folder / "state.json").write_text("{}")
    assert digest(folder, format="saved") != before


def test_a_hub_data_set_without_a_network_is_one_error_that_says_what_to_do(offline: None) -> None:
    source = TextSource(hub="owner/name", revision="0" * 40)
    with pytest.raises(
        CorpusError, match="news: hub data set 'owner/name' at 0{40} is not in the local cache.*HF_HUB_OFFLINE=0"
    ):
        list(read_documents("news", source))


def test_a_shard_without_rows_of_a_hub_data_set_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, texts in enumerate([[], ["one"], []]):
        rows = pa.table({"text": pa.array(texts, pa.string())})
        pyarrow.parquet.write_table(rows, tmp_path / f"train-0000{number}-of-00003.parquet")
    found = Snapshot("dataset", "owner/name", tmp_path, {path.name: 1 for path in tmp_path.iterdir()})
    monkeypatch.setattr("pool.corpus.documents.find_snapshot", lambda *which: found)
    assert list(read_documents("news", TextSource(hub="owner/name", revision="0" * 40))) == ["one"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hub": "owner/name"}, "has no `revision`: give the commit"),
        ({"hub": "owner/name", "revision": "main"}, "a branch or tag may be other text tomorrow: give the commit"),
        ({"hub": "./name", "revision": "0" * 40}, "should match pattern"),
        ({"hub": "owner/name", "revision": "0" * 40, "files": ("a",)}, "by one of `files` and `hub`"),
        ({}, "by one of `files` and `hub`"),
        ({"files": ("a",), "subset": "en"}, "belong to a `hub` data set"),
    ],
)
def test_a_source_that_is_none_or_not_pinned_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextSource(**options)


@pytest.mark.parametrize(("keep", "kind"), [(0.5, "text"), (0.5, "jsonl"), (0.9, "text")])
@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_compressed_file_cut_short_is_refused_and_never_taken_for_whole(
    tmp_path: Path, keep: float, kind: str, suffix: str
) -> None:
    text = "".join(json.dumps({"text": str(number**9)}) + "\n" for number in range(5000)).encode()
    whole = gzip.compress(text) if suffix == "gz" else zstandard.compress(text)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CorpusError, match=rf"news: .*a\.{suffix} (cannot be read as|ends in the middle)"):
        _read(path, format=kind)


def test_a_compressed_file_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b'{"text": "x"}\n' * 5000))
    content[-6] ^= 1
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.jsonl\.gz cannot be read as jsonl: CRC"):
        _read(tmp_path / "a.jsonl.gz")


def test_zstandard_files_of_several_frames_are_read_whole(tmp_path: Path) -> None:
    frames = [zstandard.compress(f'{{"text": "{number}"}}\n'.encode()) for number in range(3)]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert _read(tmp_path / "a.jsonl.zst") == ["0", "1", "2"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"news: .*gone\.jsonl: No such file"):
        _read(tmp_path / "gone.jsonl")


@pytest.mark.parametrize("content", ["", '{"text": "  "}\n'])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "empty.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=r"news: .*empty\.jsonl (is empty|holds no text)"):
        _read(tmp_path / "empty.jsonl")


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x", "title": "y"}\n')
    with pytest.raises(CorpusError, match="no column 'text'; it has body, title"):
        _read(tmp_path / "a.jsonl")


def test_a_column_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(CorpusError, match="column 'text' holds int, not text"):
        _read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(("name", "kind"), [("a.jsonl", "jsonl"), ("a.parquet", "parquet"), ("a.jsonl.gz", "jsonl")])
def test_a_broken_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08 this is no such file {")
    with pytest.raises(CorpusError, match=f"news: .*{name} cannot be read as {kind}"):
        _read(tmp_path / name, format=kind)
