"""Promises of paths in TOML files: `~` and variables stand for what the shell would put there, names stay names."""

from pathlib import Path

import pytest

from pool.config.pool_file import read_pool_file
from pool.errors import ConfigError
from pool.files.names import located
from studies.study_file.study_file import read_study_file


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/a.jsonl", "/home/ann/a.jsonl"),
        ("$DATA/a.jsonl", "/data/a.jsonl"),
        ("${DATA}x/*.jsonl", "/datax/*.jsonl"),
        ("$HOME/a", "/home/ann/a"),
        ("a/$DATA/b", "BASE/a//data/b"),
        ("a.jsonl", "BASE/a.jsonl"),
        ("a~b/$1.jsonl", "BASE/a~b/$1.jsonl"),
        ("~nobody-of-that-name/a", "BASE/~nobody-of-that-name/a"),
        ("~*.jsonl", "BASE/~*.jsonl"),
    ],
)
def test_a_home_and_variables_are_put_in(tmp_path: Path, written: str, meant: str) -> None:
    assert located(tmp_path, Path(written)) == Path(meant.replace("BASE", str(tmp_path)))


@pytest.mark.parametrize("name", ["~", "$DATA", "${NOWHERE}", "~$old"])
def test_a_name_that_is_there_is_no_variable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert located(tmp_path, Path(name) / "*.jsonl") == tmp_path / name / "*.jsonl"


UNSET = "the environment variable NOWHERE is not set; set it, or write the path out"


def test_a_variable_without_a_value_is_named_with_the_file_and_the_path(tmp_path: Path) -> None:
    pool, study = tmp_path / "pool.toml", tmp_path / "study.toml"
    pool.write_text('name = "x"\n[corpus.partitions.a]\nfiles = ["$NOWHERE/a.jsonl"]\n')
    with pytest.raises(ConfigError, match=rf"pool\.toml: '\$NOWHERE/a\.jsonl': {UNSET}"):
        read_pool_file(pool)
    study.write_text('name = "x"\npool = "${NOWHERE}/pool.toml"\n[target]\na = 1\n')
    with pytest.raises(ConfigError, match=rf"study\.toml: '\$\{{NOWHERE\}}/pool\.toml': {UNSET}"):
        read_study_file(study)


def test_every_path_of_a_pool_file_is_located(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(
        'name = "x"\nroot = "~/out"\n[corpus]\ntext_root = "$DATA"\n[corpus.partitions.a]\nfiles = ["a.jsonl", "~/b"]\n'
        '[corpus.partitions.a.cluster]\nk = 2\nembeddings = "$DATA/encoder"\n'
        '[seed]\ncheckpoint = "~/seed"\ntokenizer = "$DATA/tokenizer"\ncontext = 8\n'
    )
    found = read_pool_file(tmp_path / "pool.toml")
    section = found.corpus.partitions["a"]
    assert found.root == Path("/home/ann/out") and found.corpus.text_root == Path("/data")
    assert section.files == (Path("/data/a.jsonl"), Path("/home/ann/b"))
    assert section.cluster is not None and section.cluster.embeddings == Path("/data/encoder")
    assert (found.seed.checkpoint, found.seed.tokenizer) == (Path("/home/ann/seed"), Path("/data/tokenizer"))


def test_every_path_of_a_study_file_is_located(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('name = "x"\npool = "~/p.toml"\ndatabase = "$DATA/m.db"\n[target]\na = 1\n')
    found = read_study_file(tmp_path / "study.toml")
    assert (found.pool, found.database) == (Path("/home/ann/p.toml"), "/data/m.db")
