"""A study on a table that maximises, by the verbs: the values' own sign, the right one called best, and refusals."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from small_table import small_table
from tiny import edit

from objectives.stand_ins.swarm_table import SwarmTable, write_swarm
from pool.errors import ConfigError
from studies.assessment.comparison.comparison import Comparison, Contender, write_comparison
from studies.assessment.comparison.course import BestKnown, Course
from studies.opened.goal import check_table
from studies.opened.on_table import swarm_bench
from studies.study_file.study_file import read_study_file

UP = 'direction = "maximise"'


def _written(folder: Path, metrics: dict[str, np.ndarray], target: str) -> Path:
    table = small_table()
    write_swarm(SwarmTable(table.runs, table.names, table.weights, metrics), folder / "swarm")
    columns = folder / "swarm" / "metrics.csv"
    columns.write_text(columns.read_text().replace("metric/", "").replace("_val_loss", ""))
    study = f'name = "s"\ntable = "swarm"\n{target}\n[search]\nmerges = 12\n[gate]\nenabled = false\n'
    (folder / "study.toml").write_text(study)
    return folder / "study.toml"


def _answer(mixscout, *command: object) -> dict:
    answer = mixscout(*command, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def _study(file: Path) -> optuna.Study:
    return optuna.load_study(storage=f"sqlite:///{file.parent / 'mixscout.db'}", study_name="s")


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    """Accuracies that are best where the small table's losses are lowest."""
    return {f"{name}_acc": (6 - losses) / 6 for name, losses in small_table().metrics.items()}


def test_more_is_better_of_a_score_as_less_is_of_its_negative(tmp_path: Path, scores, mixscout) -> None:
    found, trials, files = {}, {}, {}
    for name, sign in {"maximise": 1.0, "minimise": -1.0}.items():
        (tmp_path / name).mkdir()
        metrics = {metric: sign * values for metric, values in scores.items()}
        file = files[name] = _written(tmp_path / name, metrics, f'[target]\ntales_acc = 1.0\ndirection = "{name}"')
        searched = _answer(mixscout, "search", file)
        found[name] = _answer(mixscout, "best", file)
        trials[name] = _study(file).trials
        assert searched["mixture"] == found[name]["mixture"] and searched["trial"] == _study(file).best_trial.number
        assert searched["value"] == pytest.approx(found[name]["best"]["predicted"]["value"])
    up, down = found["maximise"], found["minimise"]
    assert up["mixture"] == down["mixture"] and up["best_run"] == down["best_run"]
    assert [trial.params for trial in trials["maximise"]] == [trial.params for trial in trials["minimise"]]
    for standing, other in zip(*([one["best"], *one["baselines"].values()] for one in (up, down)), strict=True):
        assert standing["predicted"]["value"] == -other["predicted"]["value"] > 0
        assert standing["predicted"]["low"] == pytest.approx(-other["predicted"]["high"])
    assert up["out_of_fold"] == down["out_of_fold"] and up["out_of_fold"]["spearman"] > 0.9
    measured = dict(zip(small_table().runs, scores["tales_acc"].tolist(), strict=True))
    assert up["best_run"] == max(measured, key=measured.__getitem__)
    assert up["best"]["predicted"]["value"] > up["baselines"]["uniform"]["predicted"]["value"]
    study = _study(files["maximise"])
    assert study.direction.name == "MAXIMIZE" and study.best_value == pytest.approx(up["best"]["predicted"]["value"])

    people = " ".join(mixscout("best", files["maximise"]).out.split())
    assert "higher is better" in people and "The best mixture is predicted 0.0" in people and " -0." not in people
    report = _answer(mixscout, "report", files["maximise"])
    assert "the highest predicted value is 0." in report["summary"]
    course = [row["best so far"] for row in report["sections"]["progress"]["tables"]["progress"]]
    assert course == sorted(course) and course[0] > 0
    captions = (tmp_path / "maximise" / "reports" / "s" / "report.html").read_text()
    for words in ("blue the highest", "the highest so far", "higher is better for "):
        assert words in captions

    edit(files["maximise"], UP, 'direction = "minimise"')
    refused = mixscout("best", files["maximise"])
    assert refused.code == 1 and "started with another target" in refused.err and "maximise" in refused.err


def test_targets_of_both_directions_have_a_front_and_a_mean_with_one_negated(tmp_path: Path, scores, mixscout) -> None:
    metrics = {"tales_acc": scores["tales_acc"], "manuals_loss": small_table().metrics["manuals"]}
    targets = '[targets.tales]\ntales_acc = 1.0\ndirection = "maximize"\n[targets.manuals]\nmanuals_loss = 1.0'
    file = _written(tmp_path, metrics, targets)
    edit(file, "merges", 'strategy = "tpe"\nmerges')
    searched = _answer(mixscout, "search", file)
    assert [one.name for one in _study(file).directions] == ["MAXIMIZE", "MINIMIZE"]
    found = _answer(mixscout, "best", file)
    values = [*searched["by_objective"].values()]
    assert searched["mixture"] == found["mixture"] and searched["value"] is None
    assert values == _study(file).trials[searched["trial"]].values and [*searched["by_objective"]] == [
        "tales",
        "manuals",
    ]
    assert found["direction"] == {"tales": "maximise", "manuals": "minimise"}
    front = [(point["predicted"]["tales"], point["predicted"]["manuals"]) for point in found["front"]]
    assert len(front) >= 2 and front == sorted(front, reverse=True), "more tales cost manuals"
    people = " ".join(mixscout("best", file).out.split())
    assert "higher is better for tales, lower for manuals" in people
    assert "mean, tales negated" in people and "lowest mean of the objectives, with tales negated" in people


def test_a_comparison_shows_values_with_their_own_sign_and_regret_above_zero(tmp_path: Path) -> None:
    courses = (
        Course("s", 0, (1, 2), (0, 0), (0.1, 0.2), (-0.4, -0.5), {}),
        Course("s", 1, (1,), (0,), (0.1,), (-0.6,), {}),
    )
    contender = Contender("auto", 1, courses)
    compared = Comparison("s", "unit", 2, BestKnown(-0.7, "s"), (contender,), direction="maximise")
    shown = compared.as_json()
    assert shown["best_known"] == {"value": 0.7, "study": "s"} and shown["direction"] == "maximise"
    (one,) = shown["contenders"]
    assert one["value"] == pytest.approx({"median": 0.55, "min": 0.5, "max": 0.6})
    assert one["regret"] == pytest.approx({"median": 0.15, "min": 0.1, "max": 0.2})
    rows = [row.split(",") for row in write_comparison(compared, tmp_path / "c.csv").read_text().splitlines()[1:]]
    assert [float(row[7]) for row in rows] == [0.4, 0.5, 0.6] and all(float(row[8]) > 0 for row in rows)


SHARES = {"quality": np.linspace(0.2, 0.9, 16), "loss": np.linspace(0.2, 0.9, 16), "acc": np.linspace(20, 60, 16)}
REFUSED = {
    "a score by its name": ("[target]\nacc = 1.0", "[target] 'acc' looks like a score (20 to 60): write direction = "),
    "a share by its values": ("[target]\nquality = 1.0", "[target] 'quality' is from 0.2 to 0.9, as accuracies are"),
    "one of several": ("[targets.a]\nloss = 1.0\n[targets.b]\nacc = 1.0", "[targets.b] 'acc' looks like a score"),
    "one of a list": ('[objective]\ndomains = ["acc"]', "[objective] 'acc' looks like a score"),
    "a score beside a loss": (
        f"[target]\nloss = 0.5\nacc = 0.5\n{UP}",
        "[target] weighs 'acc', by its name a score, with 'loss', by its name a loss, so one of them gets worse: give",
    ),
    "both directions of one metric": (
        f"[targets.a]\nacc = 1.0\n{UP}\n[targets.b]\nacc = 0.5\nquality = 0.5\ndirection = 'minimise'",
        "[targets] 'acc' is minimised by one target and maximised by another: keep one direction",
    ),
    "another word": ("[target]\nacc = 1.0\ndirection = 'up'", "'target.direction': Input should be 'minimise' or"),
    "no weights": (f"[target]\n{UP}\n[objective]\ndomains = ['acc']", "[target] has a direction and no weights"),
}
ACCEPTED = {
    "a loss below 1": ("[target]\nloss = 1.0", "minimise"),
    "a score that is maximised": (f"[target]\nacc = 1.0\n{UP}", "maximise"),
    "Optuna's spelling": ('[target]\nacc = 1.0\ndirection = "maximize"', "maximise"),
    "a score that is minimised": ('[target]\nacc = 1.0\ndirection = "minimize"', "minimise"),
    "one direction for all": (f"[objective]\n{UP}\n[targets.a]\nacc = 1.0\n[targets.b]\nquality = 1.0", "maximise"),
    "a list": (f"[objective]\ndomains = ['acc', 'quality']\naggregate = 'worst'\n{UP}", "maximise"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_goal_without_a_sound_direction_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    target, message = REFUSED[case]
    file = _written(tmp_path, SHARES, target)
    edit(file, "merges", "strategy = 'random'\nmerges")
    with pytest.raises(ConfigError) as refused:
        check_table(read_study_file(file))
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_direction_is_read_where_it_stands(case: str, tmp_path: Path) -> None:
    target, direction = ACCEPTED[case]
    file = _written(tmp_path, SHARES, target)
    edit(file, "merges", "strategy = 'random'\nmerges")
    with swarm_bench(read_study_file(file)) as bench:
        assert bench.target.direction == direction


def test_an_identity_without_a_direction_is_as_it_was(tmp_path: Path) -> None:
    file = _written(tmp_path, SHARES, "[target]\nloss = 1.0\ndirection = 'minimise'")
    assert read_study_file(file).target_parts == {"loss": 1.0}
    edit(file, "loss = 1.0\ndirection = 'minimise'", f"acc = 1.0\n{UP}")
    assert read_study_file(file).target_parts == {"acc": 1.0, "direction": "maximise"}


def test_a_score_without_a_direction_is_refused_before_anything_heavy_loads(
    tmp_path: Path, mixscout, monkeypatch
) -> None:
    file = _written(tmp_path, SHARES, "[target]\nacc = 1.0")
    monkeypatch.setattr("studies.command_line.search.quiet_libraries", lambda: pytest.fail("the libraries came first"))
    answer = mixscout("search", file)
    assert answer.code == 1 and len(answer.err.splitlines()) == 1 and "'acc' looks like a score" in answer.err
    assert not (tmp_path / "mixscout.db").exists()


def test_losses_of_a_pool_are_not_maximised(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f'name = "s"\npool = "pool.toml"\n[target]\nweb = 1.0\n{UP}\n')
    with pytest.raises(
        ConfigError, match="direction = 'maximise' is for metrics of a table: held-out losses of a pool"
    ):
        read_study_file(tmp_path / "study.toml")
