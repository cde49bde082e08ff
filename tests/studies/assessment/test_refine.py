"""Refinement end to end on the tiny pool: really trained, exactly as asked, whoever dies, and used afterwards."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import edit

import mixscout as mixscout_of_python
from studies.opened.on_pool import Workbench, workbench
from studies.opened.opened_study import best_mixture, refinement_of, searched_mixture
from studies.study_file.study_file import read_study_file


@pytest.fixture(scope="module")
def refined_root(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a study and two trainings. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("refined") / "root"
    shutil.copytree(begun_root, folder)
    _refine_elsewhere(folder, 2)
    return folder


@pytest.fixture
def refined(refined_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(refined_root, tmp_path / "refined")
    return tmp_path / "refined"


def _command(root: Path, truths: int, *options: object) -> list[str]:
    study = root / "study.toml"
    every = ["refine", study, "--truths", truths, "--json", *options]
    return [sys.executable, "-m", "studies.command_line.app", *map(str, every)]


def _refine_elsewhere(root: Path, truths: int) -> dict:
    done = subprocess.run(_command(root, truths), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _refine(mixscout: Callable, root: Path, *options: object) -> dict:
    answer = mixscout("refine", root / "study.toml", *options, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def _trained(root: Path) -> dict[str, int]:
    found = (root / "pools/tiny/trained").glob("*/model.safetensors")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def _trials(bench: Workbench) -> list[tuple[str, float | None]]:
    import optuna

    study = optuna.load_study(storage=bench.database.optuna, study_name=refinement_of("tiny"))
    return [(bench.space.mixture_of(trial).digest, trial.value) for trial in study.get_trials()]


def test_the_same_line_trains_nothing_twice_and_extends(refined: Path, mixscout: Callable) -> None:
    before = _trained(refined)
    assert len(before) == 2
    found = _refine(mixscout, refined, "--truths", 2)
    assert found["truths"] == {"budget": 2, "trained": 2, "known": 0} and _trained(refined) == before
    assert found["ended"] == "the truths are spent" and found["noise"] is None and found["margin"] > 0
    assert set(found["baselines"]) == {"uniform", "proportional", "best_single_member"}
    assert found["value"]["low"] <= found["value"]["value"] <= found["value"]["high"]
    answer = mixscout("refine", refined / "study.toml", "--truths", 3)
    assert answer.code == 0 and "training 3 of 3: " in answer.err
    assert "Trained 3 of 3 (failed 0), 0 more known from other verbs" in answer.out
    assert "next: mixscout best " in answer.out
    assert before.items() < _trained(refined).items() and len(_trained(refined)) == 3


def test_the_first_training_is_the_best_of_the_search_and_later_verbs_use_the_answer(
    refined: Path, mixscout: Callable
) -> None:
    found = _refine(mixscout, refined, "--truths", 2)
    with workbench(read_study_file(refined / "study.toml"), must_exist=True) as bench:
        study = bench.known_study()
        assert _trials(bench)[0][0] == searched_mixture(bench, study).digest
        assert best_mixture(bench, study).as_dict() == pytest.approx(found["mixture"])
    best = json.loads(mixscout("best", refined / "study.toml", "--json").out)
    assert best["refined"] and "by the trainings and merges" in mixscout("best", refined / "study.toml").out
    assert best["mixture"] == pytest.approx(found["mixture"])
    with mixscout_of_python.open_study(refined / "study.toml") as study:
        again = study.refine(2)
        assert (again.counts.merges, again.mixture.as_dict()) == (2, pytest.approx(found["mixture"]))
        assert study.best_mixture == again.mixture == study.best.mixture
    page = mixscout("report", refined / "study.toml", "--output", refined / "page", "--json")
    assert page.code == 0, page.err
    text = Path(json.loads(page.out)["page"]).read_text()
    assert "that of mixscout refine" in text and "was not confirmed yet" not in text
    plan = json.loads(mixscout("handover", refined / "study.toml", refined / "hand", "--json").out)
    weights = {name: share["weight"] for name, share in plan["partitions"].items()}
    assert weights == pytest.approx({name: found["mixture"][name] for name in weights})


def test_what_confirm_trained_teaches_and_costs_nothing(begun_root: Path, tmp_path: Path, mixscout: Callable) -> None:
    shutil.copytree(begun_root, tmp_path / "root")
    assert mixscout("confirm", tmp_path / "root/study.toml").code == 0
    known = _trained(tmp_path / "root")
    found = _refine(mixscout, tmp_path / "root", "--truths", 1)
    assert found["truths"] == {"budget": 1, "trained": 1, "known": len(known)}
    assert known.items() < _trained(tmp_path / "root").items() and len(_trained(tmp_path / "root")) == len(known) + 1
    assert found["baselines"]["uniform"]["known"]


def test_a_certain_answer_ends_the_trainings(refined: Path, mixscout: Callable) -> None:
    edit(refined / "study.toml", "[gate]", "[refine]\ntruths = 5\nmargin = 9.0\n\n[gate]")
    found = _refine(mixscout, refined)
    assert found["truths"] == {"budget": 5, "trained": 2, "known": 0}
    assert found["ended"].startswith("certainty: another mixture is better by more than 9 with probability 0.0%")


def test_a_refinement_killed_at_random_ends_with_the_trainings_asked_for(
    refined: Path, refined_root: Path, mixscout: Callable
) -> None:
    rng, caught, before = random.Random(7), 0, _trained(refined)
    for _ in range(2):
        process = subprocess.Popen(_command(refined, 4), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert process.stderr is not None
        assert any("training" in line for line in process.stderr)
        time.sleep(rng.uniform(0, 0.5))
        caught += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert caught, "the kills came too late to prove anything"
    found = _refine(mixscout, refined, "--truths", 4)
    assert found["truths"] == {"budget": 4, "trained": 4, "known": 0} and found["counts"]["failed"] == 0
    after = _trained(refined)
    assert len(after) == 4 and before.items() < after.items()
    with workbench(read_study_file(refined / "study.toml"), must_exist=True) as bench:
        killed = _trials(bench)
    assert len({mixture for mixture, _ in killed}) == len(killed) == 4


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.long), "postgres"])
def test_two_workers_share_the_trainings(
    kind: str, new_address: Callable[[str], str], begun_root: Path, tmp_path: Path, mixscout: Callable
) -> None:
    root = tmp_path / "root"
    shutil.copytree(begun_root, root)
    edit(root / "study.toml", 'pool = "pool.toml"', f'pool = "pool.toml"\ndatabase = "{new_address(kind)}"')
    assert mixscout("search", root / "study.toml", "--merges", 6).code == 0
    found = _refine(mixscout, root, "--truths", 3, "--workers", 2, "--devices", "cpu")
    assert found["truths"] == {"budget": 3, "trained": 3, "known": 0} and len(_trained(root)) == 3


def test_costs_are_said_before_and_studies_without_one_loss_are_refused(refined: Path, mixscout: Callable) -> None:
    before = _trained(refined)
    costs = mixscout("refine", refined / "study.toml", "--truths", 4, "--dry-run", "--json")
    assert json.loads(costs.out)["runs"] == 2 and _trained(refined) == before
    edit(
        refined / "study.toml",
        "[target]\nlicences = 0.6\nprose = 0.4",
        "[targets.a]\nlicences = 1.0\n[targets.b]\nprose = 1.0",
    )
    edit(refined / "study.toml", 'name = "tiny"', 'name = "two"')
    edit(refined / "study.toml", 'strategy = "gradient"', 'strategy = "random"')
    assert mixscout("search", refined / "study.toml", "--merges", 4).code == 0
    refused = mixscout("refine", refined / "study.toml")
    assert refused.code == 1 and "has several [targets], and `refine` compares trainings by one" in refused.err
