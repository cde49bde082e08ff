"""Promises of progress through text: one big partition is seen to move while it is read and while it is tokenised."""

import io
import json
import re
from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace

import pytest

from pool import progress
from pool.config.pool_file import PoolFile, read_pool_file
from pool.corpus.files import digest_text
from pool.progress import duration, size, track, track_reading, track_text
from pool.tokens import stream
from pool.tokens.preparing import read_text, tokenise
from pool.tokens.tokenizer import load_tokenizer

MEGABYTES = 4


@pytest.fixture
def big(tmp_path: Path, tiny_config: PoolFile, monkeypatch: pytest.MonkeyPatch) -> PoolFile:
    """A pool file of one partition of 4 MB, half of it held out and all of that scored; progress is never kept back."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    prose, written = "\n".join(topics.values()), 0
    with (tmp_path / "web.jsonl").open("w") as stream:
        while written < MEGABYTES * 1e6:
            start = written % 200_000
            written += stream.write(json.dumps({"text": f"{written} {prose[start : start + 4_000]}"}) + "\n")
    (tmp_path / "pool.toml").write_text(
        'name = "big"\n[corpus]\nheld_out_share = 0.5\ntrain_tokens = 10_000_000\nheld_out_tokens = 10_000_000\n'
        'held_out_document_tokens = 1_000_000\n[corpus.partitions.web]\nfiles = ["web.jsonl"]\n'
    )
    return read_pool_file(tmp_path / "pool.toml")


def _steps(said: str, label: str) -> list[int]:
    return [int(step) for step in re.findall(rf"^corpus: {label}: (\d+)", said, re.MULTILINE)]


def test_reading_and_tokenising_are_seen_to_move_within_one_partition(
    big: PoolFile, tiny_config: PoolFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = read_text(big.corpus)
    said = capsys.readouterr().err
    assert _steps(said, "reading text, MB") == [1, 2, 3]
    assert "corpus: reading text, MB: 2 partition 'web'\n" in said
    (tmp_path / "corpus").mkdir()
    tokenise(
        text,
        load_tokenizer(tiny_config.folder / "tokenizer"),
        big.corpus,
        tmp_path / "corpus",
        digest_text(big.corpus, big.context),
    )
    said = capsys.readouterr().err
    assert _steps(said, "tokens, MB of text") == [0, 1, 2]
    assert re.search(r"^corpus: tokens, MB of text: 1/2 web(, about \d+ s left)?$", said, re.MULTILINE)
    assert _steps(said, "held-out tokens, MB of text") == [0, 1, 2]
    assert "corpus: held-out tokens, MB of text: 2/2 web.test\n" in said


def test_tokenising_by_several_processes_is_seen_to_move(
    big: PoolFile,
    tiny_config: PoolFile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_BYTES_A_PROCESS", 1_000)
    monkeypatch.setattr(stream, "_DOCUMENTS_AT_ONCE", 32)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    (tmp_path / "corpus").mkdir()
    tokenise(
        read_text(big.corpus),
        load_tokenizer(tiny_config.folder / "tokenizer"),
        big.corpus,
        tmp_path / "corpus",
        digest_text(big.corpus, big.context),
    )
    assert _steps(capsys.readouterr().err, "tokens, MB of text") == [0, 1, 2]


def test_pieces_follow_each_other_and_the_end_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with track_text("text", {"a": 2_500_000, "b": 1_000_000}) as advance:
        for name, share in (("a", 0.2), ("a", 0.5), ("a", 0.6), ("a", 1), ("b", 0.1), ("b", 0.5), ("b", 7.0), ("b", 1)):
            advance(name, share)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"text, MB of text: {step}" for step in ("0/4", "1/4 a", "2/4 a", "3/4 b", "4/4 b")]


def test_on_a_terminal_a_bar_within_a_bar_and_one_without_an_end_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with track_reading("reading") as advance, track("downloading", 2) as inner:
        advance("partition 'web'", 3_000_000)
        inner(2, "")
    drawn = terminal.getvalue()
    assert "reading, MB" in drawn and "3/?" in drawn and "partition 'web'" in drawn and "2/2" in drawn


def test_a_line_of_progress_says_how_long_the_rest_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with track("training 1 of 3: uniform", 40, done=10) as show:
        now = 20.0
        show(20, "loss 4.9")
        now = 60.0
        show(40, "")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "training 1 of 3: uniform: 10/40",
        "training 1 of 3: uniform: 20/40 loss 4.9, about 40 s left",
        "training 1 of 3: uniform: 40/40",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (3600, "1 h"), (18_600, "5 h 10 min"), (187_200, "2 d 4 h")],
)
def test_a_time_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_bytes_are_said_in_the_unit_that_fits() -> None:
    assert (size(31_823_451), size(847_404_000)) == ("31.8 MB", "0.85 GB")
