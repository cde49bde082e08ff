"""The ledger of commands: processor time of a process and of all it starts, each once, kept in a pool's folder."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pool.engines.resources import add_elsewhere, processor_seconds
from pool.parts.commands import Command, Meter, keep_in_pool, kept_in_pool
from pool.parts.layout import COMMANDS_FILE

BURN = """
import sys, time
while time.process_time() < 0.5: pass
print("done", flush=True)
sys.stdin.read()
"""
TICKS = 0.05
"""The system counts a living process in hundredths of a second."""
BUILD = Command("pool build", 1000.0, 20.0, 30.0)


def _child() -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "done\n"
    return child


def test_children_are_counted_once_whether_they_live_or_have_ended() -> None:
    before, meter, alive = processor_seconds(), Meter("search"), _child()
    with alive:
        first = meter.read()
        assert first.processor_seconds >= 0.5 - TICKS, "a living child counts"
        alive.communicate("")
    with _child() as ended:
        ended.communicate("")
    second = meter.read()
    waited_for = processor_seconds() - before
    assert second.processor_seconds >= 0.5 - TICKS, "an ended one too"
    assert first.processor_seconds + second.processor_seconds <= waited_for + TICKS, "and neither twice"
    assert second.began_unix == first.began_unix + first.seconds


def test_work_of_processes_that_are_no_children_is_added() -> None:
    meter = Meter("search")
    add_elsewhere(1000.0)
    assert meter.read().processor_seconds >= 1000.0
    assert meter.read().processor_seconds < 1000.0


def test_a_second_command_of_a_process_is_not_charged_with_the_first() -> None:
    earlier = Meter("pool build", of_process=True).read()
    second = Meter("search", of_process=True).read()
    assert earlier.processor_seconds > 0 and second.processor_seconds < processor_seconds()
    assert second.began_unix >= earlier.began_unix + earlier.seconds


def test_a_command_saw_what_ended_within_it() -> None:
    assert [BUILD.saw(moment) for moment in (999.9, 1000.0, 1020.0, 1020.1)] == [False, True, True, False]


def test_a_pool_s_ledger_comes_back_without_a_line_that_was_cut(tmp_path: Path) -> None:
    keep_in_pool(tmp_path, BUILD)
    with (tmp_path / COMMANDS_FILE).open("a") as stream:
        stream.write('{"verb": "pool check", "began\n{"verb": "of another version"}\n')
    keep_in_pool(tmp_path, replace(BUILD, verb="pool add"))
    assert kept_in_pool(tmp_path) == [BUILD, replace(BUILD, verb="pool add")]


def test_a_place_that_cannot_be_written_keeps_nothing_and_raises_nothing(tmp_path: Path) -> None:
    keep_in_pool(tmp_path / "absent", BUILD)
    assert not (tmp_path / "absent").exists() and kept_in_pool(tmp_path / "absent") == []
    (tmp_path / COMMANDS_FILE).mkdir()
    keep_in_pool(tmp_path, BUILD)
    assert kept_in_pool(tmp_path) == []
