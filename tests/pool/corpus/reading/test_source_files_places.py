"""Promises of places: names are names, patterns match as in a shell, folders may name columns."""

import glob
import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.config.sources import PartitionSource, TextSource
from pool.corpus.documents import read_labelled_documents
from pool.corpus.files import describe_source
from pool.corpus.reading.source_files import check_sources, folder_columns, paths_of
from pool.errors import CorpusError

NAMES = ["[2026] mix", "data[1]", "100%", "#1", "what?", "a b", "it's", 'say "x"', "größe 一", "a::b", "{x}", "a,b;c"]


def _write(path: Path, text: str = '{"text": "x"}\n') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _found(*files: Path, form: str = "jsonl") -> list[Path]:
    return paths_of("news", TextSource(files=files, format=form))


@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_below_a_folder_of_any_name_finds_its_files_and_reads_them(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name / f"{name}.jsonl")
    assert _found(tmp_path / name / "*.jsonl") == _found(path) == [path]
    assert _found(tmp_path / name / "**" / "*.jsonl") == [path]
    text = _write(tmp_path / name / f"{name}.txt", "one\n\ntwo")
    source = TextSource(files=(text,), format="text")
    assert [one for one, _ in read_labelled_documents("news", source, None)] == ["one", "two"]


def test_a_folder_that_is_there_wins_over_a_pattern_and_a_pattern_is_tried_where_it_holds_nothing(
    tmp_path: Path,
) -> None:
    matched, literal = _write(tmp_path / "data1" / "a.jsonl"), tmp_path / "data[1]"
    assert _found(tmp_path / "data[1]" / "*.jsonl") == [matched]
    literal.mkdir()
    assert _found(tmp_path / "data[1]" / "*.jsonl") == [matched]
    _write(literal / "b.jsonl")
    assert _found(tmp_path / "data[1]" / "*.jsonl") == [literal / "b.jsonl"]


PATTERNS = ["*", "**", "**/*", "**/*.jsonl", "a/**", "*/*", "?/[ab]*", "**/a/*", "*/../*.txt", ".*", "**/.*", "[!a]"]


@settings(max_examples=15, deadline=None)
@given(st.sets(st.lists(st.sampled_from(["a", "b", ".h", "c.jsonl", "d.txt"]), min_size=1, max_size=3).map(tuple)))
def test_patterns_match_what_glob_matches(
    tmp_path_factory: pytest.TempPathFactory, files: set[tuple[str, ...]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for parts in sorted(files):
        path = root.joinpath(*parts)
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            _write(path)
    for pattern in PATTERNS:
        here = {Path(one) for one in glob.glob(str(root / pattern), recursive=True) if Path(one).exists()}  # noqa: PTH207
        for form, wanted in (
            ("jsonl", [one for one in here if not one.is_dir()]),
            ("saved", [*filter(Path.is_dir, here)]),
        ):
            try:
                found = _found(root / pattern, form=form)
            except CorpusError:
                found = []
            assert found == sorted(wanted), pattern


def test_links_in_circles_are_not_followed_round(tmp_path: Path) -> None:
    path = _write(tmp_path / "a" / "x.jsonl")
    for name in ("back", "again"):
        (tmp_path / "a" / name).symlink_to(tmp_path / "a")
        (tmp_path / name).symlink_to(tmp_path)
    assert _found(tmp_path / "a" / "**" / "*.jsonl") == [path]
    elsewhere = _write(tmp_path / "b" / "y.jsonl")
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "b")
    assert _found(tmp_path / "a" / "**" / "*.jsonl") == [tmp_path / "a" / "linked" / "y.jsonl", path]
    assert elsewhere.exists()


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "a" / "x.jsonl")

    def denied(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", denied)
    with pytest.raises(CorpusError, match="news: .*a cannot be listed: Permission denied; give read permission"):
        _found(tmp_path / "a" / "*.jsonl")


def test_folders_name_columns_as_hive_does() -> None:
    path = Path("/data/lang=de/topic=a%2Fb/x=__HIVE_DEFAULT_PARTITION__/part=0.parquet")
    assert folder_columns(path) == {"lang": "de", "topic": "a/b", "x": ""}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_column_named_by_folders_splits_text_and_is_in_its_digest(tmp_path: Path, form: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    for lang in ("de", "en"):
        path = tmp_path / f"lang={lang}" / f"part-0.{form}"
        _write(
            path, {"jsonl": '{"text": "TEXT"}', "csv": "text,n\nTEXT,1\n", "parquet": ""}[form].replace("TEXT", lang)
        )
        if form == "parquet":
            pyarrow.parquet.write_table(pa.table({"text": [lang], "n": [1]}), path)
    source = PartitionSource(files=(tmp_path / "*" / f"*.{form}",), format=form, partition_by="lang")
    assert list(read_labelled_documents("news", source, "lang")) == [("de", "de"), ("en", "en")]
    before = describe_source("news", source)
    plain = describe_source("news", TextSource(files=source.files, format=form))
    (tmp_path / "lang=en").rename(tmp_path / "lang=fr")
    assert describe_source("news", source) != before
    assert describe_source("news", TextSource(files=source.files, format=form)) == plain
    with pytest.raises(CorpusError, match="has no column 'kind'; it has"):
        list(read_labelled_documents("news", source, "kind"))


def test_a_column_of_the_file_wins_over_its_folder_and_leaves_the_digest_as_it_was(tmp_path: Path) -> None:
    path = _write(tmp_path / "lang=de" / "a.jsonl", '{"text": "x", "lang": "fr"}\n{"text": "y"}\n')
    elsewhere = _write(tmp_path / "a.jsonl", path.read_text())
    inside, outside = (PartitionSource(files=(one,), partition_by="lang") for one in (path, elsewhere))
    assert list(read_labelled_documents("news", inside, "lang")) == [("x", "fr"), ("y", "")]
    assert describe_source("news", inside) == describe_source("news", outside)


@pytest.mark.parametrize("file", ["gone.jsonl", "*.jsonl"])
def test_the_environment_is_named_where_it_says_the_folder_of_a_missing_file(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TextSource(files=(tmp_path / file,), format="jsonl")
    with pytest.raises(CorpusError, match="; correct `files` in the pool file"):
        check_sources({"news": source})
    monkeypatch.setenv("MIXSCOUT_TEXT_ROOT", f"{tmp_path}/")
    with pytest.raises(CorpusError, match="; correct MIXSCOUT_TEXT_ROOT in the environment, or `files` in the pool"):
        check_sources({"news": source})


def test_empty_files_of_a_pattern_are_passed_over_in_one_line_and_stay_errors_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "pkg" / "a.py", "one\n\ntwo")
    every = TextSource(files=(tmp_path / "pkg" / "**" / "*.py",), format="text")
    before = describe_source("news", every)
    for inner in ("", "b", "c"):
        _write(tmp_path / "pkg" / inner / "__init__.py", "")
    assert describe_source("news", every) == before, "files of no bytes come and go without a new digest"
    _write(tmp_path / "pkg" / "blank.py", " \n\n")
    check_sources({"news": every})
    assert [text for text, _ in read_labelled_documents("news", every, None)] == ["one", "two"]
    first = tmp_path / "pkg" / "__init__.py"
    assert capsys.readouterr().err == f"news: passed over 4 empty files, such as {first}\n"
    for named in (first, tmp_path / "pkg" / "blank.py"):
        source = TextSource(files=(*every.files, named), format="text")
        with pytest.raises(CorpusError, match=f"news: {named} (is empty|holds no text)"):
            list(read_labelled_documents("news", source, None))


def test_a_pattern_of_empty_files_alone_is_an_error(tmp_path: Path) -> None:
    full, pattern = _write(tmp_path / "a.py", "text"), tmp_path / "pkg" / "*.py"
    empty = _write(tmp_path / "pkg" / "__init__.py", "")
    with pytest.raises(CorpusError, match=r"news: every file that matches .*pkg/\*\.py is empty; fill one, or correct"):
        _found(full, pattern, form="text")
    _write(empty, "\n")
    with pytest.raises(CorpusError, match=f"news: {empty} holds no text; remove it"):
        list(read_labelled_documents("news", TextSource(files=(pattern,), format="text"), None))


def test_blank_files_and_empty_folders_of_a_pattern_are_passed_over_in_every_format(tmp_path: Path) -> None:
    import datasets

    for form, text in (("csv", "text\nx\n"), ("tsv", "text\nx\n"), ("jsonl", '{"text": "x"}\n'), ("text", "x")):
        _write(tmp_path / form / "a", text)
        _write(tmp_path / form / "b", "\r\n \n")
        (tmp_path / form / "c.gz").write_bytes(gzip.compress(b""))
    datasets.Dataset.from_dict({"text": ["x"]}).save_to_disk(str(tmp_path / "saved" / "a"))
    (tmp_path / "saved" / "b").mkdir()
    for form in ("csv", "tsv", "jsonl", "text", "saved"):
        source = TextSource(files=(tmp_path / form / "*",), format=form)
        assert [text for text, _ in read_labelled_documents("news", source, None)] == ["x"], form
