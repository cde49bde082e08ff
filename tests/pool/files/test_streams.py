"""Standard output and error that are closed, full or of few characters: plain characters, or one line; no traceback."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pool.files.streams import plain, prepare_streams

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8", "gbk"])
def test_every_character_has_plain_ones_in_every_encoding(encoding: str) -> None:
    text = "±─│┏┃╇…→≥\N{MINUS SIGN}\N{EN DASH}“”█\N{NO-BREAK SPACE}é漢🙂\u202e"
    shown = plain(text, encoding)
    shown.encode(encoding)
    assert plain(shown, encoding) == shown
    assert encoding != "utf-8" or shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("± 0.1", "+- 0.1"),
        ("┏━┳┃╇│", "+-+|+|"),
        ("a…→≥", "a...->>="),
        ("\N{EN DASH}“x”█", "-'x'#"),
        ("é漢", "\\xe9\\u6f22"),
    ],
)
def test_plain_characters_stand_for_others(text: str, shown: str) -> None:
    assert plain(text, "ascii") == shown


def test_a_stream_writes_what_it_lacks_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr("sys.stderr", io.StringIO())
    prepare_streams()
    print("± é \udcff", flush=True)
    assert raw.getvalue() == b"+- \\xe9 \\udcff\n"


@pytest.mark.parametrize(
    ("shell", "code", "line"),
    [
        ("{} > /dev/full", 1, "mixscout: standard output: No space left on device; make room there"),
        ("{} >&-", 1, "mixscout: standard output is closed, and the answer would be lost; leave `>&-` out"),
        ("({}; echo $? >&3) 3>&1 >/dev/null 2>&- | grep -x 0 >&2", 0, "0"),
        ("({}; echo $? >&3) 3>&1 >/dev/null 2>/dev/full | grep -x 0 >&2", 0, "0"),
        ("{} >&- 2>&-", 1, ""),
    ],
)
def test_the_command_at_streams_that_take_nothing(shell: str, code: int, line: str) -> None:
    command = f"{sys.executable} -m studies.command_line.app --version"
    found = subprocess.run(["bash", "-c", shell.format(command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, len(found.stderr.splitlines())) == (code, bool(line)), found.stderr
    assert found.stderr.startswith(line)


def test_the_tree_of_rooms_goes_into_a_pipe_that_closes() -> None:
    found = subprocess.run(
        ["bash", "-c", f"{sys.executable} docs/tree.py --files | true; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (1, "docs/tree.py: standard output: Broken pipe\n")
