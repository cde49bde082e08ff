"""`mixscout compare`: equal budgets, charged honestly; every course a study that resumes; few seeds kept honest."""

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from PIL import Image
from small_table import write_small_study
from tiny import edit

from pool.errors import StudyError
from search.trials import GRADIENT
from studies.assessment.comparison.comparison import duels, least_p, seeds_needed
from studies.assessment.comparison.course import Course
from studies.assessment.comparison.run import check_values

OPTIONS = ("--strategies", "auto,random", "--seeds", 2, "--forward-equivalents", 15)


def _answer(mixscout, *command: object) -> dict:
    answer = mixscout("compare", *command, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def _study(root: Path, name: str) -> optuna.Study:
    return optuna.load_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name=name)


def _trials(root: Path) -> dict[str, list[tuple[object, ...]]]:
    names = optuna.get_all_study_names(f"sqlite:///{root / 'mixscout.db'}")
    return {name: [(t.number, t.state, t.params, t.value) for t in _study(root, name).trials] for name in names}


def ungate(root: Path) -> None:
    """Without the gate, whose judging takes longer than a tiny merge."""
    edit(root / "study.toml", "min_evidence = 5", "enabled = false")


@pytest.fixture(scope="module")
def compared_root(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a finished comparison of auto and random. Shared: never write into it."""
    from studies.assessment.comparison.run import compare_strategies
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    folder = tmp_path_factory.mktemp("compared") / "root"
    shutil.copytree(built_root, folder)
    ungate(folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        compare_strategies(bench, ["auto", "random"], 2, 15)
    return folder


@pytest.fixture
def compared(compared_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(compared_root, tmp_path / "compared")
    return tmp_path / "compared"


def test_budgets_are_equal_in_forward_equivalents_and_a_gradient_counts_three(compared: Path, mixscout) -> None:
    found = _answer(mixscout, compared / "study.toml", *OPTIONS)
    auto, random = found["contenders"]
    assert [course["merges"] for one in (auto, random) for course in one["courses"]] == [5, 5, 15, 15]
    assert auto["courses"][0]["forward_equivalents"] == [3, 6, 9, 12, 15]
    assert random["courses"][0]["forward_equivalents"] == list(range(1, 16))
    for one in (auto, random):
        for course in one["courses"]:
            assert course["best"] == sorted(course["best"], reverse=True)
            for spent in (course["tokens_read"], course["seconds"]):
                assert spent == sorted(spent) and spent[0] > 0
        ends = sorted(course["best"][-1] for course in one["courses"])
        assert (one["value"]["min"], one["value"]["max"]) == (ends[0], ends[-1])
        assert one["value"]["median"] == pytest.approx(sum(ends) / 2)
        assert (
            one["regret"]["min"] == pytest.approx(ends[0] - found["best_known"]["value"]) and one["regret"]["min"] >= 0
        )


def test_what_was_remembered_is_charged_as_if_it_had_been_computed(compared: Path, mixscout) -> None:
    found = _answer(mixscout, compared / "study.toml", *OPTIONS)
    first, second = (one["courses"][1] for one in found["contenders"])
    start = [
        trial for trial in _study(compared, "tiny.compare.random.1").trials if "mixscout:start" in trial.user_attrs
    ]
    assert all(trial.user_attrs["mixscout:cached"] for trial in start) and len(start) == 4
    whole = first["tokens_read"][0]
    assert second["tokens_read"][:4] == [whole, 2 * whole, 3 * whole, 4 * whole]


def test_a_strategy_without_gradients_is_given_none_that_others_have_left(compared: Path) -> None:
    attributes = {
        name: [GRADIENT in trial.user_attrs for trial in _study(compared, f"tiny.compare.{name}.0").trials]
        for name in ("auto", "random")
    }
    assert all(attributes["auto"]) and not any(attributes["random"])


def test_asked_again_it_does_nothing_and_with_more_it_goes_on(compared: Path, mixscout) -> None:
    before = _trials(compared)
    assert set(before) == {f"tiny.compare.{name}.{seed}" for name in ("auto", "random") for seed in (0, 1)}
    first = _answer(mixscout, compared / "study.toml", *OPTIONS)
    assert _answer(mixscout, compared / "study.toml", *OPTIONS) == first and _trials(compared) == before
    more = ("--strategies", "auto,random,qmc", "--seeds", 3, "--forward-equivalents", 18)
    extended = _answer(mixscout, compared / "study.toml", *more)
    after = _trials(compared)
    assert len(after) == 9 and all(after[name][: len(trials)] == trials for name, trials in before.items())
    assert [len(one["courses"]) for one in extended["contenders"]] == [3, 3, 3]
    again = _answer(mixscout, compared / "study.toml", *OPTIONS)
    courses = [[one["courses"] for one in found["contenders"]] for found in (again, first)]
    assert courses[0] == courses[1], "a smaller budget cuts the courses where it ends"


def test_a_kill_loses_nothing(root: Path, compared: Path, mixscout) -> None:
    ungate(root)
    script = (
        "import os, signal, sys; from search import loop; from studies.command_line.app import main; told = []\n"
        "def dying(*arguments, kept=loop._record):\n"
        "    told.append(1); kept(*arguments)\n"
        "    if len(told) == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "loop._record = dying; main()"
    )
    command = [sys.executable, "-c", script, "compare", root / "study.toml", *OPTIONS]
    killed = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, cwd=Path(__file__).parents[3]
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sum(len(trials) for trials in _trials(root).values()) < 20
    _answer(mixscout, root / "study.toml", *OPTIONS)
    assert _trials(root) == _trials(compared)


def test_people_get_tables_a_picture_and_a_csv_file(compared: Path, mixscout) -> None:
    shown = mixscout("compare", compared / "study.toml", *OPTIONS)
    assert shown.code == 0, shown.err
    assert "With 2 seeds p cannot be below 0.5 whoever wins" in shown.out and "--seeds 6 or more" in shown.out
    assert Image.open(compared / "reports" / "tiny.compare.png").size[0] > 800
    with (compared / "reports" / "tiny.compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 5 + 2 * 15
    last = [row for row in rows if row["study"] == "tiny.compare.random.1"][-1]
    values = [trial.value for trial in _study(compared, "tiny.compare.random.1").trials if trial.value is not None]
    assert float(last["best"]) >= min(values) and float(last["forward_equivalents"]) == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategies", "auto,simplex"), "--strategies: unknown strategy 'simplex'; use auto"),
        (("--strategies", "tpe,tpe"), "'tpe' is given twice or empty"),
        (("--merges", 12), "--merges is called --forward-equivalents here"),
        (
            ("--forward-equivalents", 12),
            "--forward-equivalents 12 buys 'auto' 4 merges at 3 forward-equivalents each, and the start design alone",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    options: tuple[object, ...], message: str, root: Path, mixscout
) -> None:
    answer = mixscout("compare", root / "study.toml", *options)
    assert answer.code == 1 and message in answer.err and answer.err.count("\n") == 1
    assert not _trials(root)


def test_studies_run_before_stand_side_by_side_at_the_budget_both_have_spent(compared: Path, mixscout) -> None:
    assert mixscout("search", compared / "study.toml", "--merges", 6).code == 0
    shutil.copy(compared / "study.toml", compared / "other.toml")
    edit(compared / "other.toml", 'name = "tiny"', 'name = "other"')
    edit(compared / "other.toml", '"gradient"', '"random"')
    answer = mixscout("compare", compared / "study.toml", compared / "other.toml")
    assert answer.code == 1 and "no study 'other'" in answer.err
    assert mixscout("search", compared / "other.toml", "--merges", 20).code == 0
    found = _answer(mixscout, compared / "study.toml", compared / "other.toml")
    assert found["budget_forward_equivalents"] == 18 and found["differing"] == ["strategy"]
    assert [one["courses"][0]["merges"] for one in found["contenders"]] == [6, 18]
    assert found["duels"] == [] and found["least_p_value"] is None
    people = mixscout("compare", compared / "study.toml", compared / "other.toml")
    assert "nothing was tested" in people.out and "The studies also differ in: strategy." in people.out
    assert (compared / "reports" / "tiny-other.compare.png").exists()
    mixed = mixscout("compare", compared / "study.toml", compared / "other.toml", "--seeds", 2)
    assert mixed.code == 1 and "are for one study file" in mixed.err
    twice = mixscout("compare", compared / "study.toml", compared / "study.toml")
    assert twice.code == 1 and "both name their study 'tiny'" in twice.err


def test_studies_of_other_questions_are_refused_by_what_differs(compared: Path, mixscout) -> None:
    assert mixscout("search", compared / "study.toml", "--merges", 5).code == 0
    shutil.copy(compared / "study.toml", compared / "other.toml")
    edit(compared / "other.toml", 'name = "tiny"', 'name = "other"')
    edit(compared / "other.toml", "licences = 0.6\nprose = 0.4", "licences = 1.0")
    edit(compared / "other.toml", "[search]", '[objective]\nrule = "power"\n[space]\nmax_members = 2\n[search]')
    assert mixscout("search", compared / "other.toml", "--merges", 5).code == 0
    answer = mixscout("compare", compared / "study.toml", compared / "other.toml")
    assert answer.code == 1 and answer.err.count("\n") == 1
    for part in ("another held-out text", "another target", "another merge rule", "another space"):
        assert part in answer.err


def test_a_study_on_a_table_is_compared_too(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    found = _answer(mixscout, study, "--strategies", "auto,random", "--seeds", 3, "--forward-equivalents", 10)
    assert [one["forward_equivalents_per_merge"] for one in found["contenders"]] == [1, 1], "a table has no gradients"
    (duel,) = found["duels"]
    assert duel["wins"] == 3 and duel["p_value"] == 0.25 == found["least_p_value"]
    assert found["measure"] == "the metrics' own unit"
    wrong = mixscout("compare", study, "--strategies", "gradient")
    assert wrong.code == 1 and "'gradient' does not fit study 'small'" in wrong.err


def test_several_targets_are_refused(root: Path, mixscout) -> None:
    edit(
        root / "study.toml",
        "[target]\nlicences = 0.6\nprose = 0.4",
        "[targets.a]\nprose = 1.0\n[targets.b]\ndocs = 1.0",
    )
    edit(root / "study.toml", '"gradient"', '"random"')
    for files in ([root / "study.toml"], [root / "study.toml", root / "study.toml"]):
        answer = mixscout("compare", *files)
        assert answer.code == 1 and "has several [targets]: compare follows one value" in answer.err


def test_p_values_are_exact_for_few_seeds() -> None:
    won = duels({"a": [1.0, 1.1, 1.2, 1.3, 1.4], "b": [2.0, 2.2, 2.5, 2.9, 3.4]})[0]
    assert (won.wins, won.ties, won.losses, won.exact) == (5, 0, 0, True)
    assert won.p_value == pytest.approx(2 / 2**5) == pytest.approx(least_p(5))
    # Ranks 1 to 5, the smallest against the others: a rank sum of at most 1 has 2 of 32 sign patterns, two-sided 4.
    mixed = duels({"a": [0.1, 0.0, 0.0, 0.0, 0.0], "b": [0.0, 0.2, 0.3, 0.4, 0.5]})[0]
    assert mixed.p_value == pytest.approx(4 / 32)
    assert seeds_needed(0.05) == 6 and least_p(5) > 0.05 > least_p(6)


def test_equal_ends_are_ties_and_repeats_of_one_difference_are_no_evidence() -> None:
    tied = duels({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})[0]
    assert (tied.wins, tied.ties, tied.losses, tied.p_value) == (0, 3, 0, 1.0)
    constant = duels({"a": [1.0] * 6, "b": [2.0] * 6})[0]
    assert constant.wins == 6 and constant.p_value is None


def test_a_course_knows_the_best_value_at_any_amount_spent() -> None:
    course = Course("s", 0, (3, 6, 9), (10, 20, 20), (1.0, 2.5, 9.0), (5.0, 4.0, 4.0), {})
    assert math.isnan(course.best_at("forwards", 2))
    assert [course.best_at("forwards", spent) for spent in (3, 8, 99)] == [5.0, 4.0, 4.0]
    assert course.best_at("seconds", 2.4) == 5.0 and course.until(8).merges == 2


def test_a_course_without_a_value_is_refused() -> None:
    nan = math.nan
    course = Course("s", 0, (1, 2), (5, 10), (1.0, 2.0), (nan, nan), {})
    with pytest.raises(StudyError, match="study 's' has no value to compare: all its 2 evaluations failed"):
        check_values(course)
    check_values(Course("s", 0, (1, 2), (5, 10), (1.0, 2.0), (nan, 3.1), {}))
