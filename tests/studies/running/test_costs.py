"""The costs of verbs on a study are counted and measured in private; the pool and the database stay as they are."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import edit, snapshot

import mixscout
from pool.building.training.costs import Costs, Seconds
from search.trials import count_trials
from studies.opened.opening import open_privately, open_study
from studies.running.costs import search_costs
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file


def costs_of_search(folder: Path, merges: int) -> Costs:
    with open_privately(read_study_file(folder / "study.toml")) as bench:
        return search_costs(bench, merges)


def test_a_search_that_has_not_begun_is_counted_from_its_start_design_on(root: Path, mixscout: Callable) -> None:
    before = snapshot(root)
    said = mixscout("search", root / "study.toml", "--dry-run", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["runs"], found["merges"], found["forwards"]) == (0, 12, 36)
    assert found["scored_tokens"] % 12 == 0
    parts = {"start, pool and study opened", "start design", "search"}
    assert parts <= set(found["seconds_by_part"])
    assert found["remembered"] == {"merges of the study": 0, "evaluations of the start design": 0}
    assert "measuring a few merges of study 'tiny'" in said.err
    assert snapshot(root) == before


def test_a_search_under_way_has_only_the_rest_before_it(begun_root: Path) -> None:
    before = snapshot(begun_root)
    found = costs_of_search(begun_root, 40)
    assert (found.merges, found.remembered["merges of the study"]) == (34, 6)
    assert "search" in found.parts and "start design" not in found.parts
    assert costs_of_search(begun_root, 6).seconds == Seconds()
    assert snapshot(begun_root) == before
    with open_study(read_study_file(begun_root / "study.toml")) as bench:
        assert count_trials(bench.known_study()).merges == 6


def test_evaluations_of_another_study_are_remembered(begun_root: Path, tmp_path: Path) -> None:
    shutil.copytree(begun_root, tmp_path / "root")
    edit(tmp_path / "root" / "study.toml", 'name = "tiny"', 'name = "another"')
    found = costs_of_search(tmp_path / "root", 12)
    assert (found.merges, found.remembered["evaluations of the start design"]) == (8, 4)


def test_members_mapped_from_disk_are_packed_elsewhere(root: Path) -> None:
    edit(root / "study.toml", "[search]", '[objective]\nheld = "mapped"\n\n[search]')
    assert costs_of_search(root, 6).merges == 6
    assert not list((root / "pools").rglob("packed"))


def test_a_study_has_its_costs_in_python(root: Path, begun_root: Path) -> None:
    shutil.copy(begun_root / "mixscout.db", root)
    with mixscout.open_study(root / "study.toml") as study:
        assert study.costs(8).merges == 2
    assert mixscout.pool_costs(root / "pool.toml").runs == 0


def test_a_confirmation_counts_the_models_that_are_not_trained(
    root: Path, begun_root: Path, mixscout: Callable
) -> None:
    shutil.copy(begun_root / "mixscout.db", root)
    before = snapshot(root)
    first = json.loads(mixscout("confirm", root / "study.toml", "--dry-run", "--json").out)
    assert (first["runs"], first["remembered"]["models"]) == (3, 1)
    assert first["train_tokens"] == 3 * (6_000 // 256) * 256
    assert snapshot(root) == before
    assert mixscout("confirm", root / "study.toml", "--json").code == 0
    again = json.loads(mixscout("confirm", root / "study.toml", "--dry-run", "--json").out)
    assert (again["runs"], again["merges"], again["remembered"]["models"]) == (0, 0, 4)


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [(("fidelity", "--mixtures", 6, "--repeats", 1), 10), (("ablate",), 0)],
    ids=lambda given: given[0] if isinstance(given, tuple) else None,
)
def test_a_verb_on_a_study_says_its_costs_and_writes_nothing(
    begun_root: Path, arguments: tuple, runs: int, mixscout: Callable
) -> None:
    before = snapshot(begun_root)
    verb, *options = arguments
    said = mixscout(verb, begun_root / "study.toml", *options, "--dry-run", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["runs"] == runs
    assert found["merges"] > 0
    assert "measuring a few merges" in said.err
    assert ("measuring a few steps of training" in said.err) == (runs > 0)
    assert snapshot(begun_root) == before


def test_a_comparison_counts_one_start_design_and_every_seed_s_proposals(begun_root: Path, mixscout: Callable) -> None:
    before = snapshot(begun_root)
    options = ("--strategies", "tpe,random", "--seeds", 2, "--forward-equivalents", 8, "--dry-run")
    said = mixscout("compare", begun_root / "study.toml", *options)
    assert said.code == 0, said.err
    assert "The costs of the comparison of 2 strategies on study 'tiny'; nothing was done" in said.out
    assert re.search(r"merges to be made +│ 16 ", said.out) and "time: random" in said.out
    assert snapshot(begun_root) == before
    several = mixscout("compare", begun_root / "study.toml", begun_root / "study.toml", "--dry-run")
    assert "--dry-run is for one study file; studies already run are compared without a merge" in several.err


def test_a_study_that_has_not_begun_is_named_as_it_is(root: Path, mixscout: Callable) -> None:
    said = mixscout("confirm", root / "study.toml", "--dry-run")
    assert said.code == 1
    assert f"no study 'tiny' in {root / 'mixscout.db'}; run `mixscout search" in said.err


def test_of_a_study_on_a_server_a_private_copy_is_measured(
    begun_root: Path, tmp_path: Path, new_address: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(begun_root, tmp_path / "root")
    monkeypatch.setenv("MIXSCOUT_STORAGE", new_address("postgres"))
    config = read_study_file(tmp_path / "root" / "study.toml")
    with open_study(config) as bench:
        run_search(bench, 5)
    found = costs_of_search(tmp_path / "root", 9)
    assert (found.merges, found.remembered["merges of the study"]) == (4, 5)
    with open_study(config) as bench:
        assert count_trials(bench.known_study()).merges == 5
