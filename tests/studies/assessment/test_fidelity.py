"""Fidelity and prediction, end to end on the tiny pool: mixtures really trained, compared, imported, predicted."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from tiny import edit, snapshot

from objectives.agreement.rule_choice import choose_rule
from objectives.merging.rules import USUAL_EXPONENTS
from studies.assessment.fidelity.report import FidelityRequest, design, make_report
from studies.assessment.fidelity.table import rule_verdict
from studies.opened.on_pool import workbench
from studies.running.run import run_search
from studies.study_file.study_file import read_study_file

COUNT = 9
COMMAND = ("--mixtures", COUNT, "--repeats", 1, "--exponents", "0.5", "--train-proposal")


@pytest.fixture(scope="module")
def judged_root(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a study and its fidelity. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("judged") / "root"
    shutil.copytree(begun_root, folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        make_report(bench, bench.known_study(), FidelityRequest(COUNT, 1, exponents=(0.5,), train_proposal=True))
    return folder


@pytest.fixture
def judged(judged_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(judged_root, tmp_path / "judged")
    return tmp_path / "judged"


def _report(mixscout, judged: Path, *options: object) -> dict:
    answer = mixscout("fidelity", judged / "study.toml", *(options or COMMAND), "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_the_report_is_of_models_really_trained_and_is_made_from_what_is_kept(judged: Path, mixscout) -> None:
    before = snapshot(judged / "pools")
    report = _report(mixscout, judged)
    assert snapshot(judged / "pools") == before, "nothing is trained twice"
    named = {one["name"]: one for one in report["mixtures"]}
    assert len(named) == COUNT and {"best", "uniform", "proportional", "spread-1"} <= set(named)
    assert all(sum(weight > 0 for weight in one["mixture"].values()) > 1 for one in report["mixtures"])
    confirmed = json.loads(mixscout("confirm", judged / "study.toml", "--json").out)["confirmed"]
    for one in confirmed[:3]:
        test = named[one["name"]]["test"]
        assert (test["proxy"], test["trained"]) == pytest.approx((one["proxy"], one["trained"]), abs=1e-6)
    proxy, trained = ([one["test"][key] for one in report["mixtures"]] for key in ("proxy", "trained"))
    agreement = report["test"]["agreement"]
    assert agreement["spearman"]["value"] == pytest.approx(spearmanr(proxy, trained).statistic)
    assert agreement["bias"]["value"] == pytest.approx(np.mean(proxy) - np.mean(trained))
    assert set(report["test"]["domains"]) == {"licences", "prose", "code", "docs"}
    for one in [agreement, *report["test"]["domains"].values()]:
        assert one["noise"]["freedom"] == 4 and one["noise"]["margin"] > 0
    assert Path(report["picture"]).read_bytes().startswith(b"\x89PNG")


def test_the_report_predicts_the_best_mixture_by_the_rules_that_the_truths_speak_for(judged: Path, mixscout) -> None:
    asked = ("--exponents", ",".join(map(str, USUAL_EXPONENTS)), "--json")
    answer = json.loads(mixscout("predict", judged / "study.toml", *asked).out)
    assert answer == json.loads(mixscout("predict", judged / "study.toml", "--json").out), "they are the default"
    page = json.loads(mixscout("report", judged / "study.toml", "--json").out)["page"]
    with Path(page).with_name("prediction.csv").open(newline="") as stream:
        rows = {row["split"]: row for row in csv.DictReader(stream)}
    for split in ("search", "test"):
        expected = answer[split]["predicted"]
        assert [float(rows[split][name]) for name in ("low", "high")] == pytest.approx(
            [expected["low"], expected["high"]]
        )
        assert all(name in rows[split]["by merges of"] for name in answer["calibration"][split]["rules"])


def test_models_over_several_devices_leave_out_the_rule_that_needs_whole_ones(judged: Path, mixscout) -> None:
    assert "fisher" in json.dumps(_report(mixscout, judged))
    edit(judged / "study.toml", "[search]", "[objective]\ndevices = 2\n[search]")
    assert "fisher" not in json.dumps(_report(mixscout, judged))


def test_a_longer_design_begins_with_the_shorter_and_a_study_that_goes_on_changes_only_its_best(judged: Path) -> None:
    config = read_study_file(judged / "study.toml")
    with workbench(config) as bench:
        study = bench.known_study()
        short, long = (list(design(bench, study, count).items()) for count in (8, 16))
        assert long[:8] == short and len({mixture.digest for _, mixture in long}) == 16
        assert all(bench.space.contains(mixture) and len(mixture.support) > 1 for _, mixture in long)
        run_search(bench, 12)
        later = list(design(bench, study, 16).items())
    assert later[0] != long[0] and later[1:] == long[1:]


def test_for_people_differences_stand_beside_the_noise_and_what_cannot_be_told_is_said(judged: Path, mixscout) -> None:
    shown = mixscout("fidelity", judged / "study.toml", *COMMAND).out
    assert "Noise floor: trained again in another order, a loss differs by" in shown
    assert "above the noise of" in shown or "within the noise of" in shown
    assert "Recommended: identity, the study's own" in shown, "nine truths recommend no other rule"
    assert "Lowest prediction" in shown
    assert shown.splitlines()[-1].startswith("next: mixscout report ")
    assert shown.count("two predictions err by") + shown.count("the study's best mixture is the proposal") == 2
    alone = mixscout("fidelity", judged / "study.toml", "--mixtures", 8).out
    assert "Noise floor: not measured; `--repeats 2`" in alone


def test_the_proposal_is_the_lowest_prediction_and_was_trained(judged: Path, mixscout) -> None:
    proposal = _report(mixscout, judged)["proposal"]
    best = proposal["best"]["search"]["predicted"]["value"]
    assert proposal["search"]["predicted"]["value"] <= best
    assert proposal["ahead"]["search"]["difference"] == pytest.approx(best - proposal["search"]["predicted"]["value"])
    text = ",".join(f"{name}={weight!r}" for name, weight in proposal["mixture"].items())
    command = ("predict", judged / "study.toml", "--mixture", text, "--exponents", "0.5", "--json")
    predicted = json.loads(mixscout(*command).out)
    assert predicted["search"]["proxy"] == pytest.approx(proposal["search"]["proxy"])
    behind = predicted["calibration"]["search"]
    assert behind["truths"] in (COUNT, COUNT + 1), "the proposal's own truth is known too"
    assert sum(behind["rules"].values()) == pytest.approx(1) and behind["nominal_coverage"] == 0.9
    assert set(behind["rules"]) <= {score["name"] for score in _report(mixscout, judged)["rules"]["scores"]}
    assert set(proposal["trained"]["test"]) == {"proposal", "best"}


def test_predict_says_what_training_would_give_and_an_interval_around_it(judged: Path, mixscout) -> None:
    before = snapshot(judged / "pools")
    command = ("predict", judged / "study.toml", "--mixture", "code=0.25, prose=0.75")
    answer = json.loads(mixscout(*command, "--json").out)
    for split in ("search", "test"):
        predicted = answer[split]["predicted"]
        assert predicted["low"] <= predicted["value"] <= predicted["high"]
        assert abs(predicted["value"] - answer[split]["proxy"]) < 0.5
    assert snapshot(judged / "pools") == before, "nothing is trained"
    shown = mixscout(*command).out
    assert shown.splitlines()[-1].startswith("next: mixscout handover ")
    assert "prose 0.75, code 0.25" in shown and "a truth left out is predicted within" in shown
    best = json.loads(mixscout("best", judged / "study.toml", "--json").out)["mixture"]
    assert json.loads(mixscout("predict", judged / "study.toml", "--json").out)["mixture"] == pytest.approx(best)


def _export(report: dict, folder: Path, *, repeat: bool = False) -> None:
    """Write the truths of the test split as a swarm's two tables, columns and rows in another order."""
    folder.mkdir()
    rows = report["mixtures"] + ([{**report["mixtures"][0], "name": "again"}] if repeat else [])
    weights = [{"run": one["name"], **dict(reversed(one["mixture"].items()))} for one in rows]
    losses = [
        {"run": one["name"], **{f"metric/{name}": pair["trained"] for name, pair in one["test"]["domains"].items()}}
        for one in reversed(rows)
    ]
    for name, table in (("ratios.csv", weights), ("metrics.csv", losses)):
        with (folder / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, table[0])
            writer.writeheader()
            writer.writerows(table)


def test_truths_measured_elsewhere_give_the_same_report_matched_by_name(judged: Path, mixscout) -> None:
    report = _report(mixscout, judged)
    _export(report, judged / "truths", repeat=True)
    edit(judged / "truths" / "metrics.csv", "metric/docs", "metric/other")
    imported = _report(mixscout, judged, "--truths", judged / "truths")
    assert imported["ignored"] == ["other"] and imported["truths"].endswith("truths")
    for name in ("spearman", "regret_at_1", "rmse"):
        assert imported["test"]["agreement"][name] == pytest.approx(report["test"]["agreement"][name], abs=1e-6)
    assert imported["test"]["domains"]["code"]["rmse"] == pytest.approx(report["test"]["domains"]["code"]["rmse"])
    assert "docs" not in imported["test"]["domains"]
    assert imported["test"]["agreement"]["noise"]["deviation"] == pytest.approx(0, abs=1e-9), (
        "one run came twice, alike"
    )
    by_file = _report(mixscout, judged, "--truths", judged / "truths" / "ratios.csv")
    assert by_file["test"] == imported["test"]
    predicted = mixscout("predict", judged / "study.toml", "--truths", judged / "truths", "--json")
    assert json.loads(predicted.out)["calibration"]["test"]["truths"] == COUNT
    page = json.loads(mixscout("report", judged / "study.toml", "--truths", judged / "truths", "--json").out)
    with Path(page["page"]).with_name("fidelity.csv").open(newline="") as stream:
        drawn = sorted(float(row["really trained"]) for row in csv.DictReader(stream) if row["split"] == "test")
    assert drawn == pytest.approx(sorted(row["test"]["trained"] for row in imported["mixtures"]))


MISTAKES = {
    "too few mixtures": (("fidelity", "--mixtures", 3), "--mixtures must be 6 or more, fewer say nothing: got 3"),
    "no exponent": (("fidelity", "--exponents", "0.5,x"), "--exponents: 'x' is no number"),
    "negative exponent": (("fidelity", "--exponents", "-1"), "an exponent must be above 0: got '-1'"),
    "no truths": (("fidelity", "--truths", "nowhere"), "nowhere: no such folder"),
    "no mixture": (
        ("predict", "--mixture", "prose"),
        "--mixture: expected PARTITION=WEIGHT once for each, got 'prose'",
    ),
    "twice": (("predict", "--mixture", "prose=0.5,prose=0.5"), "expected PARTITION=WEIGHT once for each"),
    "unknown partition": (("predict", "--mixture", "wiki=1"), "--mixture: 'wiki' is no partition of the pool"),
    "no sum of one": (("predict", "--mixture", "prose=0.7"), "--mixture: the weights of a mixture must sum to 1"),
}


@pytest.mark.parametrize(("command", "message"), MISTAKES.values(), ids=MISTAKES)
def test_bad_input_is_one_clear_line(judged_root: Path, mixscout, command: tuple, message: str) -> None:
    verb, *options = command
    answer = mixscout(verb, judged_root / "study.toml", *options)
    assert answer.code == 1
    assert answer.err.startswith("mixscout: ") and message in answer.err and len(answer.err.splitlines()) == 1


def test_tables_of_other_partitions_or_without_the_study_s_domains_are_refused(judged: Path, mixscout) -> None:
    _export(_report(mixscout, judged), judged / "truths")
    edit(judged / "truths" / "metrics.csv", "metric/prose", "metric/poetry")
    answer = mixscout("fidelity", judged / "study.toml", "--truths", judged / "truths")
    assert answer.code == 1 and "there is no metric for the study's held-out domain 'prose'" in answer.err
    edit(judged / "truths" / "ratios.csv", "docs", "books")
    answer = mixscout("predict", judged / "study.toml", "--truths", judged / "truths")
    assert answer.code == 1 and "'books' is no partition of the pool, which has code, docs, prose" in answer.err
    (judged / "truths" / "ratios.csv").write_text("run,code,docs\na,1,0\nb,0,1\n")
    (judged / "truths" / "metrics.csv").write_text("run,prose,licences\na,1,1\nb,2,2\n")
    answer = mixscout("fidelity", judged / "study.toml", "--truths", judged / "truths")
    assert answer.code == 1 and "every run is of a single partition" in answer.err


def test_a_study_without_truths_predicts_nothing_and_says_how_to_get_them(judged: Path, mixscout) -> None:
    edit(judged / "study.toml", 'name = "tiny"', 'name = "tiny"\ndatabase = "other.db"')
    assert mixscout("predict", judged / "study.toml").code == 1
    assert mixscout("search", judged / "study.toml", "--merges", 4).code == 0
    answer = mixscout("predict", judged / "study.toml")
    assert answer.code == 1 and "knows the truth of 0 mixtures, a prediction needs 6" in answer.err
    edit(judged / "study.toml", "[search]", "[space]\nmax_members = 1\n[search]")
    edit(judged / "study.toml", "other.db", "third.db")
    edit(judged / "study.toml", 'start = ["uniform", "vertices"]', 'start = ["vertices"]')
    assert mixscout("search", judged / "study.toml", "--merges", 3).code == 0
    answer = mixscout("fidelity", judged / "study.toml", "--mixtures", 8)
    assert answer.code == 1 and "[space] the space has no mixture of two partitions or more" in answer.err


def test_a_better_rule_is_recommended_with_the_test_that_is_still_owed() -> None:
    """Truths near one rule's best mixture say little of the mixture that another rule would choose."""
    truth = 4 + np.linspace(0, 1, 24) ** 2
    wrong = truth.copy()
    wrong[:12] = np.random.default_rng(0).permutation(truth[:12])
    verdict = rule_verdict(choose_rule({"identity": wrong, "fisher": truth}, truth, own="identity"))
    assert verdict.startswith("Recommended: fisher, better here than the study's identity, beyond chance.")
    assert verdict.endswith("search a study by that rule, and compare what `confirm` trains.")
