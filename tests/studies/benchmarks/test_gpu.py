"""`bench gpu`: every part works with tiny sizes, figures are there at once, and a failing part costs itself alone."""

import json
import multiprocessing
import os
import time
from io import StringIO
from operator import methodcaller
from pathlib import Path

import pytest
from rich.console import Console

from pool.engines.group import run_limited
from pool.errors import PoolError
from studies.benchmarks import gpu
from studies.benchmarks.evaluation.tables import show_gpu
from studies.benchmarks.gpu import PARTS, run_gpu
from studies.benchmarks.ratio import Figure, GpuFigures


def test_every_part_runs_on_a_cpu_and_its_figures_are_kept(tmp_path: Path, mixscout) -> None:
    answer = mixscout("bench", "gpu", "--tiny", "--json", tmp_path / "gpu.json")
    assert answer.code == 0
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["is_judged"] is False
    figures = {(one["part"], one["name"]): one for one in kept["figures"]}
    assert {part for part, _ in figures} == set(PARTS)
    assert not [key for key in figures if key[1] == "ended early"]
    valued = [one for one in figures.values() if one["name"] != "device"]
    assert all(one["value"] is not None and one["value"] >= 0 for one in valued)
    errors = [one["value"] for one in valued if "error" in one["name"]]
    assert len(errors) == 12 and max(errors) < 1e-6
    assert figures["score", "bfloat16, compiled, off in a second run"]["value"] == 0
    assert figures["memory", "times that memory ran out"]["value"] == 1
    assert figures["memory", "losses after that, off"]["value"] < 1e-6
    assert answer.out.count("not on a CPU") == sum(
        one["least"] is not None or one["most"] is not None for one in valued
    )
    assert "falls short" not in answer.out and "exactness: 1 min at most" in answer.err


def test_a_failed_a_dead_and_a_slow_part_are_rows_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def good(bench: gpu.Bench):
        yield Figure("good", "speed", 2.0, "GB/s", least=1.0)

    def fails(bench: gpu.Bench):
        yield Figure("fails", "before", 1.0)
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")

    def dies(bench: gpu.Bench):
        os._exit(9)

    def slow(bench: gpu.Bench):
        time.sleep(60)

    parts = {"fails": (9, fails), "dies": (9, dies), "slow": (0.2, slow), "good": (9, good)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    seen: list[int] = []
    monkeypatch.setattr(gpu, "write_text", lambda file, text: seen.append(len(json.loads(text)["figures"])))
    found = run_gpu(tiny=True, file=Path("gpu.json"))
    assert seen == [1, 2, 3, 4, 5], "figures are written as soon as they are there"
    assert [(one.part, one.value, one.note) for one in found.figures] == [
        ("fails", 1.0, ""),
        ("fails", None, "RuntimeError: CUDA error: an illegal memory access was encountered"),
        ("dies", None, "the process ended with exit code 9"),
        ("slow", None, "the process was ended after 0 s"),
        ("good", 2.0, ""),
    ]


def test_a_table_says_what_holds_and_what_falls_short() -> None:
    figures = (
        Figure("merge", "share", 0.8, least=0.7),
        Figure("merge", "error", 1e-5, most=1e-6),
        Figure("score", "speed", 5.0, "tokens/s"),
        Figure("score", "ended early", note="the process was ended after 40 s"),
    )
    assert [one.holds for one in figures] == [True, False, None, None]
    console = Console(width=120, record=True, file=StringIO())
    show_gpu(console, GpuFigures(is_judged=True, figures=figures))
    page = console.export_text().splitlines()
    said = {words: next(line for line in page if words in line) for words in ("share", "error", "speed")}
    assert ">= 0.7" in said["share"] and "holds" in said["share"]
    assert "<= 1e-06" in said["error"] and "falls short" in said["error"]
    assert "holds" not in said["speed"] and "falls" not in said["speed"]
    assert "score, ended early: the process was ended after 40 s" in page


@pytest.mark.parametrize("forked", [True, False])
def test_a_limited_work_hands_over_its_values(forked: bool) -> None:
    assert list(run_limited(methodcaller("__call__", 7), 60, forked=forked)) == [7]


def test_nothing_is_left_of_a_work_that_is_not_waited_for() -> None:
    works = run_limited(methodcaller("__call__", 7), 60, forked=True)
    assert next(works) == 7
    works.close()
    assert multiprocessing.active_children() == []
    with pytest.raises(PoolError, match="ended after 0 s"):
        list(run_limited(lambda send: time.sleep(60), 0.1, forked=True))


def test_without_a_gpu_the_way_to_see_it_work_is_said(mixscout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "known_gpus", tuple)
    answer = mixscout("bench", "gpu")
    assert answer.code == 1
    assert answer.err == (
        "mixscout: bench gpu measures a GPU, and PyTorch sees none here: --tiny runs its parts on the CPU\n"
    )
