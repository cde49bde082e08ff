"""Every verb, found in the application itself: its help, its mistakes, and its way to standard output."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from studies.command_line.app import app

SOURCES = Path(__file__).parents[3]


def _verbs(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words
    for name, one in (inner or {}).items():
        yield from _verbs(one, (*words, name))


VERBS = sorted(_verbs(typer.main.get_command(app)))


def test_every_verb_is_found() -> None:
    assert {("best",), ("pool", "check"), ("bench", "search"), ("dashboard",)} <= set(VERBS) and len(VERBS) > 20


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "--no-such-option"])
def test_a_verb_speaks_plainly_where_characters_are_few(
    verb: tuple[str, ...], option: str, monkeypatch: pytest.MonkeyPatch, mixscout
) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(f"sys.{name}", stream)
    answer = mixscout(*verb, option)
    said = b"".join(stream.buffer.getvalue() for stream in streams.values()).decode("ascii")
    assert answer.code == (0 if option == "--help" else 2)
    assert f" {verb[-1]} " in said and "Traceback" not in said and "\\u" not in said


def test_answers_leave_by_the_terminal_alone() -> None:
    """A closed or full standard output is then one line for every verb, also for those to come."""
    allowed = {"studies/terminal.py", "studies/study_file/reference.py"}
    for path in sorted((SOURCES / "studies").rglob("*.py")):
        if path.relative_to(SOURCES).as_posix() in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("print", "Console", "sys.stdout.write", "typer.echo", "click.echo"), path
