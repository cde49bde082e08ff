"""The verb `ages`: the best mixture at every age of the members, and whether it has settled."""

import html
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from small_table import write_small_study
from tiny import edit, rewrite_record

import mixscout as api
from objectives.scoring.paired import PairedDifference
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from search.trials import completed_trials
from studies.answers.ages import AGES, Age, Ages, remembered_ages
from studies.answers.picture import draw_ages
from studies.answers.tables import used_partitions
from studies.opened.on_pool import workbench
from studies.opened.opening import open_to_read
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.sections.course import ages_section
from studies.study_file.study_file import read_study_file

STEPS, LAST, BATCH_TOKENS = (3, 6, 9), 11, 8 * 32


@pytest.fixture(scope="module")
def searched_root(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with members kept every three steps, and a study of eight merges. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("aged") / "root"
    shutil.copytree(built_root, folder)
    edit(folder / "pool.toml", "tokens = 6_000\n", "tokens = 3_000\nkeep_every_steps = 3\n")
    api.build_pool(folder / "pool.toml", rebuild=["code", "docs", "prose"])
    with api.open_study(folder / "study.toml") as study:
        study.search(8)
    return folder


@pytest.fixture
def root(searched_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched_root, tmp_path / "aged")
    return tmp_path / "aged"


@pytest.fixture(scope="module")
def measured_root(searched_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with its ages measured by five merges each. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("measured") / "root"
    shutil.copytree(searched_root, folder)
    with api.open_study(folder / "study.toml") as study:
        study.ages(5)
    return folder


@pytest.fixture
def measured(measured_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(measured_root, tmp_path / "measured")
    return tmp_path / "measured"


def _rows(root: Path) -> int:
    with sqlite3.connect(root / "mixscout.db") as database:
        return database.execute("select count(*) from evaluations").fetchone()[0]


def _change(root: Path, change: Callable[[dict], object]) -> None:
    """Change the answer of `ages` that the study remembers."""
    study = optuna.load_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name="tiny")
    content = study.user_attrs[AGES]
    change(content)
    study.set_user_attr(AGES, content)


def _unsettle(content: dict) -> None:
    content["ages"][1]["regret_at_end"]["test"] = {"difference": 0.5, "standard_error": 0.01, "documents": 9}


def test_ages_prints_the_promised_object_and_a_second_run_merges_nothing(measured: Path, mixscout) -> None:
    before = _rows(measured)
    answer = mixscout("ages", measured / "study.toml", "--merges", 5, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert _rows(measured) == before, "all was remembered"
    assert {"study", "searched", "ages", "margin", "settled", "judged", "verdict", "left_out"} <= set(found)
    assert [age["steps"] for age in found["ages"]] == [*STEPS, LAST]
    assert [age["tokens"] for age in found["ages"]] == [steps * BATCH_TOKENS for steps in (*STEPS, LAST)]
    assert found["judged"] == 6 and found["left_out"] == [] and found["margin"] > 0
    for age in found["ages"]:
        assert sum(age["weights"].values()) == pytest.approx(1) and age["regret"] >= 0
        assert set(age["regret_at_end"]) == {"search", "test"} and -1 <= age["spearman"] <= 1
    end = found["ages"][-1]
    assert (end["regret"], end["distance"], end["spearman"]) == (0, 0, pytest.approx(1))
    assert {paired["difference"] for paired in end["regret_at_end"].values()} == {0}
    assert (measured / "reports" / "tiny.ages.png").stat().st_size > 10_000


def test_the_end_is_never_worse_than_the_study_and_values_are_those_of_the_age(measured: Path) -> None:
    with workbench(read_study_file(measured / "study.toml"), must_exist=True) as bench:
        study = bench.known_study()
        found = remembered_ages(bench, study)
        assert found is not None
        assert found.verdict.split(",")[0] in html.unescape(found._repr_html_())
        assert found.end.value <= min(trial.values[0] for trial in completed_trials(study))
    young = measured / "young.toml"
    young.write_text((measured / "study.toml").read_text().replace('name = "tiny"', 'name = "young"'))
    edit(young, "[gate]", "[objective]\nmember_age = 6\n\n[gate]")
    before = _rows(measured)
    with api.open_study(young) as study:
        half, end = (Mixture.of(age.weights) for age in (found.ages[1], found.end))
        value = study.loss()(half).value
        assert value == pytest.approx(found.ages[1].value, rel=1e-9)
        assert study.loss()(end).value - value == pytest.approx(found.ages[1].regret, abs=1e-9)
    assert _rows(measured) == before, "a study with member_age finds the merges of its age"


def test_ages_for_people_end_with_the_verdict(measured: Path, mixscout) -> None:
    answer = mixscout("ages", measured / "study.toml", "--merges", 5)
    assert answer.code == 0, answer.err
    assert "by the age of its members, the end last" in answer.out
    assert "learning rate has not fallen yet (cosine)" in answer.out
    lines = answer.out.splitlines()
    assert lines[-1].startswith("next: mixscout confirm ") and lines[-2].startswith("picture: ")
    assert lines[-3].startswith(("Settled: at the members' end, ", "NOT settled: at the members' end, "))


def test_a_warning_comes_with_every_answer_until_the_best_mixture_is_another(measured: Path, mixscout) -> None:
    study = measured / "study.toml"
    _change(measured, lambda content: content["ages"][1]["regret_at_end"]["test"].update(difference=0.0))
    assert json.loads(mixscout("best", study, "--json").out)["doubts"] == []
    _change(measured, _unsettle)
    (doubt,) = json.loads(mixscout("best", study, "--json").out)["doubts"]
    assert doubt.startswith("NOT settled: at the members' end, the best mixture at step 6 of 11 is worse by +0.5000")
    assert mixscout("best", study).out.startswith(doubt)
    assert json.loads(mixscout("search", study, "--merges", 8, "--json").out)["doubts"] == [doubt]
    report = json.loads(mixscout("report", study, "--json").out)
    assert report["summary"].startswith(doubt)
    section = report["sections"]["ages"]
    assert section["notes"] == [doubt.removesuffix(" `mixscout ages` shows more.")]
    assert [row["tokens"] for row in section["tables"]["ages"]] == [n * BATCH_TOKENS for n in (*STEPS, LAST)]
    assert section["tables"]["ages-regret"][1]["worse at the end, test"] == 0.5
    assert {"ages.png", "ages-regret.png", "ages.csv"} <= {Path(path).name for path in report["files"]}
    _change(measured, lambda content: content.update(searched={"code": 1.0, "docs": 0.0, "prose": 0.0}))
    with open_to_read(read_study_file(study)) as bench:
        facts = Facts.of(bench, study)
        assert list(facts.doubts) == [] and ages_section(facts) is None


def _age(steps: int, weights: dict[str, float], test: PairedDifference) -> Age:
    at_end = {"search": PairedDifference(0.0, 0.0, 9), "test": test}
    return Age(steps, 256 * steps, weights, 4.0, 0.0, at_end, 0.1, 0.9)


def _ages(paired: PairedDifference) -> Ages:
    other, end = PairedDifference(0.3, 0.0, 9), PairedDifference(0.0, 0.0, 9)
    some = [_age(2, {"a": 0.9, "b": 0.1}, other), _age(9, {"a": 0.2, "b": 0.8}, paired)]
    ages = [*some, _age(16, {"a": 0.6, "b": 0.4}, other), _age(20, {"a": 0.0, "b": 1.0}, end)]
    return Ages("s", {"a": 0.0, "b": 1.0}, ages, 12, 0.01, "constant")


@pytest.mark.parametrize(
    ("difference", "error", "settled", "why"),
    [
        (0.05, 0.01, False, "worse by +0.0500 ± 0.0196 than the best there (test split; 0.0100 would be small)"),
        (0.05, 0.03, True, "no more than chance"),
        (0.005, 0.001, True, "less than 0.0100, which is small"),
        (-0.05, 0.01, True, "no worse"),
        (0.05, float("inf"), False, "worse by +0.0500, from a single document"),
        (0.005, float("inf"), True, "less than 0.0100, which is small"),
    ],
)
def test_the_best_has_settled_if_that_of_half_the_training_is_as_good(
    difference: float, error: float, settled: bool, why: str
) -> None:
    found = _ages(PairedDifference(difference, error, 9))
    assert found.judged.steps == 9, "the age nearest to half of the training"
    assert found.settled is settled and why in found.verdict and found.verdict.count("\n") == 0
    assert found.as_json()["settled"] is settled


def test_the_picture_has_a_line_for_every_partition_in_use(tmp_path: Path) -> None:
    found = _ages(PairedDifference(0.05, float("inf"), 9))
    assert used_partitions(found) == ["b", "a"]
    assert draw_ages(found, tmp_path / "new" / "ages.svg").read_text().count("<svg") == 1


def test_the_costs_are_said_before(root: Path, measured: Path, mixscout) -> None:
    before = _rows(root)
    costs = json.loads(mixscout("ages", root / "study.toml", "--merges", 5, "--dry-run", "--json").out)
    assert costs["merges"] == 4 * (12 + 2 + 5) and _rows(root) == before
    known = json.loads(mixscout("ages", measured / "study.toml", "--merges", 5, "--dry-run", "--json").out)
    assert known["merges"] == 0 and known["remembered"]["ages"] == 4


def test_ages_that_some_members_lack_are_left_out(root: Path, mixscout) -> None:
    rewrite_record(root / "pools/tiny/members/docs/manifest.json", lambda content: content["ages"].pop("9"))
    rewrite_record(root / "pools/tiny/pool.json", lambda content: content["members"]["docs"]["ages"].pop("9"))
    answer = mixscout("ages", root / "study.toml", "--merges", 2)
    assert answer.code == 0, answer.err
    assert "Left out, as not all members were kept then: 9." in answer.out


def test_without_ages_the_option_and_the_price_are_named(built_root: Path, mixscout, tmp_path: Path) -> None:
    shutil.copytree(built_root, tmp_path / "built")
    study = tmp_path / "built" / "study.toml"
    assert mixscout("search", study, "--merges", 2).code == 0
    refused = mixscout("ages", study)
    assert refused.code == 1 and refused.err.count("\n") == 1
    assert "pool 'tiny' has no age of all its members: its members kept no ages. Set [recipe] keep_every_steps = 3" in (
        refused.err
    )
    assert "--all-members`: 3 of 3 members are trained again (" in refused.err and "MB more kept" in refused.err


def test_members_without_a_common_age_are_named(root: Path) -> None:
    pool = api.open_pool(root / "pool.toml")
    members = pool.manifest.members

    def refusal(**changed: object) -> str:
        others = {**members, "docs": members["docs"].model_copy(update=changed)}
        with pytest.raises(ConfigError) as refused:
            _with_members(pool, others).at_all_ages()
        return str(refused.value)

    one = refusal(ages={})
    assert "member 'docs' kept none, unlike the others. Set [recipe] keep_every_steps = 3 and run" in one
    assert "POOL.toml --rebuild docs`: 1 of 3 members are trained again (" in one
    assert "member 'docs' (added from elsewhere) kept none" in refusal(ages={}, imported=object())
    kept = refusal(ages={5: members["docs"].ages[6]})
    assert "member 'code' kept 3, 6, 9; member 'docs' kept 5; member 'prose' kept 3, 6, 9" in kept


def _with_members(pool: Pool, members: dict) -> Pool:
    return replace(pool, manifest=pool.manifest.model_copy(update={"members": members}))


def test_a_study_of_an_age_of_several_targets_or_on_a_table_is_refused(root: Path, tmp_path: Path, mixscout) -> None:
    study = root / "study.toml"
    whole = study.read_text()
    edit(study, 'name = "tiny"', 'name = "other"')
    edit(study, "[gate]", "[objective]\nmember_age = 6\n\n[gate]")
    assert mixscout("search", study, "--merges", 4).code == 0
    assert "study 'other' merges members of age 6, and `ages` compares all ages" in mixscout("ages", study).err
    study.write_text(whole)
    edit(study, "[target]\nlicences = 0.6\nprose = 0.4", "[targets.a]\nlicences = 1.0\n[targets.b]\nprose = 1.0")
    edit(study, 'name = "tiny"', 'name = "two"')
    edit(study, '"gradient"', '"random"')
    assert mixscout("search", study, "--merges", 4).code == 0
    assert "study 'two' has several [targets], and `ages` compares merges by one" in mixscout("ages", study).err
    (tmp_path / "table").mkdir()
    on_table = write_small_study(tmp_path / "table")
    table = mixscout("ages", on_table)
    assert table.code == 1 and "is on a table of models already trained" in table.err and table.err.count("\n") == 1
    with pytest.raises(ConfigError, match="ages needs a pool"), api.open_study(on_table) as one:
        one.ages()
