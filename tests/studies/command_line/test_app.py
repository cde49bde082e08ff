"""Every verb, found in the application itself: its help, its mistakes, and its way to standard output."""

import ast
import io
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from subprocess import PIPE

import click
import pytest
import torch
import typer
from tiny import edit

from pool.building.build import build_pool
from pool.config.pool_file import read_pool_file
from pool.parts.commands import kept_in_pool
from studies.command_line import app as app_module
from studies.command_line.app import app, main
from studies.command_line.verbs import INTERRUPTED

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
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")  # whatever started the tests
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


NEXT = {
    ("pool", "show", "pool.toml"): "search study.toml",
    ("search", "study.toml", "--merges", "7"): "best study.toml",
    ("best", "study.toml"): "confirm study.toml",
    (
        "compare",
        "study.toml",
        "--strategies",
        "random",
        "--seeds",
        "1",
        "--forward-equivalents",
        "6",
    ): "search study.toml",
    ("table", "study.toml", "evaluated"): "search OTHER.toml",
    ("handover", "study.toml", "run-1"): "report study.toml",
}


def test_a_verb_ends_with_its_finding_and_the_next_command(
    begun_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixscout: Callable
) -> None:
    shutil.copytree(begun_root, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    for arguments, then in NEXT.items():
        answer = mixscout(*arguments)
        assert answer.code == 0, answer.err
        *_, finding, last = answer.out.splitlines()
        assert last.startswith(f"next: mixscout {then}  # "), arguments
        if arguments[0] == "search":
            assert re.fullmatch(r"best mixture: \w+ 0\.\d\d.*, value \d\.\d{4}", finding), finding
    (tmp_path / "root" / "study.toml").rename(tmp_path / "root" / "study.txt")
    alone = mixscout("pool", "show", "pool.toml").out.splitlines()[-1]
    assert alone == 'next: mixscout search STUDY.toml  # with pool = "pool.toml" and a [target] in STUDY.toml'


def _interrupted(*command: object, wait_for: str, also_seconds: float = 0.0) -> tuple[int, str]:
    """Run a command in a process of its own, and press Ctrl-C once it says some words; return its code and words."""
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are started ignoring it
    whole = [sys.executable, "-m", "studies.command_line.app", *map(str, command)]
    with subprocess.Popen(whole, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=heed) as process:
        try:
            assert process.stderr is not None
            said = "".join(takewhile(lambda line: wait_for not in line, iter(process.stderr.readline, "")))
            time.sleep(also_seconds)
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert "Traceback" not in rest
    return process.returncode, said + rest


def test_ctrl_c_in_a_build_says_what_is_kept_and_the_same_command_goes_on(empty_root: Path) -> None:
    build = ("pool", "build", empty_root / "pool.toml")
    edit(empty_root / "pool.toml", "tokens = 6_000", "tokens = 200_000")
    code, said = _interrupted(*build, wait_for="training 1 of 3: member 'code': 0/", also_seconds=0.5)
    assert code == INTERRUPTED == 130
    assert re.search(r"stopped by Ctrl-C; kept: the corpus, and 1 of 4 models(, member 'code' up to step \d+)?\n", said)
    assert said.endswith(f"the same command goes on from there: {shlex.join(['mixscout', *map(str, build)])}\n")
    (stopped,) = kept_in_pool(empty_root / "pools" / "tiny")
    assert stopped.verb == "pool build" and stopped.processor_seconds > 1, "the ledger has it"
    seed = empty_root / "pools" / "tiny" / "seed" / "model.safetensors"
    written = seed.stat().st_mtime_ns
    edit(empty_root / "pool.toml", "tokens = 200_000", "tokens = 6_000")
    build_pool(read_pool_file(empty_root / "pool.toml"))
    assert seed.stat().st_mtime_ns == written


@pytest.mark.long
def test_ctrl_c_in_a_search_keeps_its_merges(begun_root: Path, tmp_path: Path, mixscout: Callable) -> None:
    shutil.copytree(begun_root, tmp_path / "root")
    study = tmp_path / "root" / "study.toml"
    code, said = _interrupted("search", study, "--merges", 5000, wait_for="search tiny: 6/5000", also_seconds=1.0)
    found = re.search(r"stopped by Ctrl-C; kept: (\d+) of 5000 merges of study 'tiny'\n", said)
    assert code == INTERRUPTED and found, said
    total = int(found[1]) + 3
    answer = mixscout("search", study, "--merges", total)
    assert answer.out.startswith(f"merges {total} (of which")


def test_ctrl_c_elsewhere_loses_nothing_that_was_finished(
    begun_root: Path, monkeypatch: pytest.MonkeyPatch, mixscout: Callable
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pool.parts.store.open_pool", press)
    answer = mixscout("pool", "show", begun_root / "pool.toml")
    assert answer.code == INTERRUPTED
    assert answer.err.startswith(
        "stopped by Ctrl-C; what was finished is kept\nthe same command goes on from there: mix"
    )


def test_a_gpu_that_fails_ends_every_verb_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert torch.__version__, "what fails has loaded it"
    for message, ends in (
        ("CUDA error: device-side assert triggered\nCompile with", SystemExit),
        ("odd", RuntimeError),
    ):

        def verb(prog_name: str, message: str = message) -> None:
            raise RuntimeError(message)

        monkeypatch.setattr(app_module, "app", verb)
        with pytest.raises(ends):
            main()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("mixscout: a GPU failed, and this process can use it no more (CUDA error: device-side")


def test_idle_threads_sleep_unless_the_user_has_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, sys, contextlib; from studies.command_line.app import main; sys.argv = ['mixscout', '--help']\n"
    )
    script += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None): main()\n"
    script += "print(os.environ['OMP_WAIT_POLICY'], os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    for given, expected in ((None, "PASSIVE 1 False\n"), ("7", "PASSIVE 7 False\n")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        if given is not None:
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.endswith(expected), done.stdout + done.stderr
