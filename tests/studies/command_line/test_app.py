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


def _options(verb: tuple[str, ...]) -> list[click.Parameter]:
    command = typer.main.get_command(app)
    for name in verb:
        command = command.commands[name]
    return [one for one in command.params if one.param_type_name == "option" and not one.hidden]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_says_every_default_and_no_type_of_a_flag(verb: tuple[str, ...], mixscout) -> None:
    said = mixscout(*verb, "-h")
    assert said.code == 0 and said.out == mixscout(*verb, "--help").out
    assert "<bool>" not in said.out and "--quiet" in said.out and "--verbose" in said.out
    silent = [one.name for one in _options(verb) if not (one.is_flag or one.required) and one.default is None]
    assert silent == [one.name for one in _options(verb) if isinstance(one.show_default, str)]


def test_completion_is_offered(monkeypatch: pytest.MonkeyPatch, mixscout) -> None:
    monkeypatch.setenv("_MIXSCOUT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "mixscout pool b")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert mixscout().out.split() == ["build"]
    monkeypatch.delenv("_MIXSCOUT_COMPLETE")
    shown = mixscout("--show-completion")
    assert shown.code == 0


def test_answers_leave_by_the_terminal_alone() -> None:
    """A closed or full standard output is then one line for every verb, also for those to come."""
    allowed = {"studies/terminal.py", "studies/study_file/reference.py"}
    for path in sorted((SOURCES / "studies").rglob("*.py")):
        if path.relative_to(SOURCES).as_posix() in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("print", "Console", "sys.stdout.write", "typer.echo", "click.echo"), path
