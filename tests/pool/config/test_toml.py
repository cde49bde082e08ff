"""Promises of TOML files: every mistake is one line that names the file, the key and the way out."""

from pathlib import Path

import pytest

from pool.config.pool_file import PoolFile, read_pool_file
from pool.errors import ConfigError
from pool.files.toml import read_config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"', "key 'corpus' is missing"),
        ('name = "x"\nrecipee = 1\n[corpus]\nsource="demo"', "unknown key 'recipee'; did you mean 'recipe'?"),
        ('name="x"\n[corpus]\nsource="demo"\n[recipe]\ntokenz=1', "'recipe.tokenz'; did you mean 'tokens'?"),
        ('name="x"\n[corpus]\nsource="demo"\n[seed.recipe]\nfoo=1', "'seed.recipe.foo'; known here: tokens, batch"),
        ('name="x"\n[corpus]\nsource="demo"\n[recipe]\nlearning_rate=-1.0', r"greater than 0 \(got -1.0\)"),
        ('name="x"\n[corpus]\nsource="demo"\n[recipe]\nlearning_rate=nan', "'recipe.learning_rate'"),
        ('name=" x"\n[corpus]\nsource="demo"', r"'name': a name is 1 to 200 .*\(got ' x'\)"),
        ('name="x"\n[corpus.partitions.seed]\nfiles=["f"]', "a partition cannot be called 'seed'"),
        ('name="x"\n[corpus.partitions.all]\nfiles=["f"]', "a partition cannot be called 'all'"),
        ('name="x"\n[corpus]\nsource="demo"\n[recipe]\norder_seed=4294967296', "less than 4294967296"),
        ('name="x"\n[corpus]', "no partition: add a"),
        ('name="x"\n[corpus]\nsource="demo"\n[corpus.partitions.a]\nfiles=["f"]', "brings its own partitions"),
        (
            'name="x"\n[corpus.partitions."a\\nb"]\nfiles=["f"]',
            "a name has no control characters and no line breaks: leave U.000A out",
        ),
        (f'name="x"\n[corpus.partitions.{"a" * 201}]\nfiles=["f"]', "a name is 1 to 200 characters"),
        ('name="x"\n[corpus.held_out."a~0123456789ab"]\nfiles=["f"]', "is that of a file: choose another"),
        (
            'name="x"\n[corpus.partitions.a]\nfiles=["f"]\n[corpus.held_out.a]\nfiles=["g"]',
            "has the name of a partition",
        ),
        (
            'name="x"\n[corpus]\nsource="demo"\n[seed]\nmixture = {a = 0.6, b = 0.42}',
            r"\[seed\] mixture: the weights of a mixture must sum to 1: they sum to 1.02; divide each by 1.02",
        ),
        (
            'name="x"\n[corpus]\nsource="demo"\n[seed]\nmixture = {a = 1.5, b = -0.5}',
            r"\[seed\] mixture: the weight of 'b' must be finite and >= 0: got -0.5",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pool.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_pool_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


MINIMAL = 'name = "size"\n[corpus]\nsource = "demo"\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file_is_read_alike_with_a_byte_order_mark_and_with_line_ends_of_windows(
    tmp_path: Path, encoding: str, ending: str
) -> None:
    path = tmp_path / "pool.toml"
    path.write_bytes(MINIMAL.replace("\n", ending).encode(encoding))
    assert read_pool_file(path).name == "size"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MINIMAL.encode("utf-16"), "in UTF-16, and TOML is in UTF-8; save the file with encoding UTF-8"),
        (MINIMAL.encode("utf-16-be"), "in UTF-16, and TOML is in UTF-8; save the file with encoding UTF-8"),
        (f"{MINIMAL}# caf\xe9".encode("latin-1"), "byte 0xe9 in line 4 is not UTF-8, the encoding of TOML; save"),
        (b"\xef\xbb\xbfname = 1\n# \xff", "byte 0xff in line 2 is not UTF-8"),
        (b'root = "C:\\data"', "not valid TOML: .* in a path, write `/` instead of a backslash, or single quotes"),
        (b'root = "C:\\users"', "not valid TOML: .* in a path, write `/` instead of a backslash, or single quotes"),
    ],
)
def test_another_encoding_and_a_backslash_are_named_with_the_way_out(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "pool.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"pool\.toml: {message}") as caught:
        read_pool_file(tmp_path / "pool.toml")
    assert "\n" not in str(caught.value)


OTHERS = {
    "mix.zip": (b"PK\x03\x04\x14\0\0\0\x08\0\xbd", "a ZIP archive, and not TOML"),
    "mix.toml.gz": (b"\x1f\x8b\x08", "compressed by gzip, and not TOML"),
    "mix.tar": (b"pool.toml".ljust(257, b"\0") + b"ustar", "a tar archive, and not TOML"),
    "mix.db": (b"SQLite format 3\0", "a SQLite database, and not TOML"),
    "pool": (b'{"name": "x"}', "JSON, and not TOML"),
    "pool.yaml": (b"corpus:\n  source: demo\n", "YAML by its name, and not TOML"),
    "study.toml": (
        b'name = "x"\npool = "pool.toml"\n',
        "a study file, by its key 'pool'; give the path of a pool file",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_named_by_its_kind(tmp_path: Path, name: str) -> None:
    content, said = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}: {said}") as caught:
        read_pool_file(tmp_path / name)
    assert "give the path of a" in str(caught.value)


def test_a_folder_that_the_environment_names_is_said_to_be_named_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool.toml").write_text(MINIMAL)
    monkeypatch.setenv("MIXSCOUT_TEXT_ROOT", "$NOWHERE/text")
    with pytest.raises(ConfigError, match="MIXSCOUT_TEXT_ROOT in the environment: .*variable NOWHERE is not set"):
        read_pool_file(tmp_path / "pool.toml")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory; give the path of a TOML file"):
        read_pool_file(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: no such file"):
        read_pool_file(tmp_path / "gone.toml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text('name="x"\nroot="out"\n[corpus.partitions.a]\nfiles=["f.jsonl"]')
    config = read_pool_file(tmp_path / "pool.toml")
    assert config.folder == tmp_path / "out" / "pools" / "x"
    assert config.corpus.partitions["a"].files == (tmp_path / "f.jsonl",)


def test_a_seed_mixture_as_published_is_divided_by_its_sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pool.toml"
    for weights, note in (("a = 0.6, b = 0.4001", "1.0001"), ("a = 60, b = 40", "100, as percent"), ("a = 1.0", "")):
        path.write_text(f'name="x"\n[corpus]\nsource="demo"\n[seed]\nmixture = {{{weights}}}')
        mixture = read_pool_file(path).seed.mixture
        assert isinstance(mixture, dict) and sum(mixture.values()) == pytest.approx(1, abs=1e-15)
        expected = f"{path}: [seed] mixture: weights sum to {note}: divided by it\n" if note else ""
        assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('pool = "a\\u0000b"', "pool"),
        ('[target]\n"a\\u0000b" = 1.0', "a\0b"),
        ('[corpus.partitions.a]\nfiles = ["x", "y\\u0000"]', "corpus.partitions.a.files"),
    ],
)
def test_a_nul_character_is_refused_by_its_key(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no name and no path may have one") as refused:
        read_config(path, PoolFile)
    assert repr(key) in str(refused.value)


def test_brackets_inside_each_other_by_the_thousand_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"a = {'[' * 5000}{']' * 5000}")
    with pytest.raises(ConfigError, match="too deeply"):
        read_config(path, PoolFile)
