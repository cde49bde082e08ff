"""The verdict of a report: what is better than what, by how much, and whether it was really trained."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from objectives.scoring.paired import PairedDifference
from pool.mixture import Mixture
from studies.answers.best import find_best
from studies.answers.confirm import trained_loss
from studies.answers.picture import BETTER, GREY, WORSE
from studies.opened.on_pool import Workbench, workbench
from studies.opened.opened_study import REFINED
from studies.opened.opening import open_to_read
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import COLOURS, Advantage
from studies.outcome.report.sections.standings import MERGED, TRAINED
from studies.outcome.report.sections.verdict import (
    BY_TRAININGS,
    Takeaway,
    _claim,
    best_section,
    percentages,
    verdict_of,
)
from studies.study_file.study_file import read_study_file


@pytest.fixture(scope="module")
def judged(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a study of six merges whose best mixture was asked for. Shared: never write into it."""
    folder = tmp_path_factory.mktemp("judged") / "root"
    shutil.copytree(begun_root, folder)
    with workbench(read_study_file(folder / "study.toml")) as bench:
        find_best(bench, bench.known_study())
    return folder


def _verdict(root: Path) -> Takeaway:
    with open_to_read(read_study_file(root / "study.toml")) as bench:
        found = verdict_of(Facts.of(bench, root / "study.toml"))
    assert found is not None
    return found


def _lead(better: float, half: float, baseline: str = "uniform") -> Advantage:
    return Advantage(baseline, TRAINED, better, better - half, better + half)


def _confirm(bench: Workbench, *, shift: float) -> None:
    """Remember what `confirm` would: models whose nats are those of the merges, the best one's shifted by window."""
    best, trained = Mixture.of(find_best(bench, bench.known_study()).mixture.as_dict()), trained_loss(bench)
    for mixture in (best, Mixture.uniform(best.names), bench.proxy.pool.proportional()):
        merged = bench.losses["test"](mixture)
        moved = {name: nats + (shift if mixture == best else 0) for name, nats in merged.windows.items()}
        found = replace(merged, kind="trained", objective_digest=trained.digest, windows=moved)
        bench.database.evaluations.keep(found)


@pytest.mark.parametrize(
    ("lead", "claim"),
    [
        (_lead(0.113, 0.025), "0.113 ± 0.025 nats better than uniform"),
        (_lead(-0.05, 0.02), "0.050 ± 0.020 nats worse than uniform"),
        (_lead(0.0008, 0.0003), "0.00080 ± 0.00030 nats better than uniform"),
        (Advantage("uniform", TRAINED, -0.1, -0.2, -0.05), "0.100 (0.050 to 0.200) nats worse than uniform"),
        (_lead(0.004, 0.01, "proportional"), "cannot be told from proportional (+0.004 ± 0.010 nats)"),
        (_lead(-0.004, 0.01, "seed"), "cannot be told from the seed (-0.004 ± 0.010 nats)"),
        (Advantage("uniform", TRAINED, 0.1, 0.05, 0.2), "0.100 (0.050 to 0.200) nats better than uniform"),
        (_lead(0.02, math.inf), "0.020 nats better than uniform, by how much chance is not known"),
    ],
)
def test_a_claim_says_the_difference_its_interval_and_its_side(lead: Advantage, claim: str) -> None:
    assert _claim(lead, "nats") == claim


def test_a_lead_counts_beyond_its_interval_alone_and_each_side_has_one_colour() -> None:
    leads = [_lead(0.2, 0.1), _lead(-0.2, 0.1), _lead(0.2, 0.2), _lead(0.2, math.inf)]
    assert [one.side for one in leads] == ["better", "worse", "unclear", "unclear"]
    assert [COLOURS[one.side] for one in leads] == [BETTER, WORSE, GREY, GREY]
    exact = Advantage.of("uniform", TRAINED, PairedDifference(0.3, 0.1, 9))
    assert (exact.low, exact.high) == pytest.approx((0.3 - 0.196, 0.3 + 0.196))


def test_a_mixture_is_named_by_its_five_largest_weights() -> None:
    weights = {"a_b": 0.4, "c": 0.3, "d": 0.1, "e": 0.1, "f": 0.05, "g": 0.046, "h": 0.004}
    said = percentages(Mixture.of(weights)).replace("\N{NO-BREAK SPACE}", " ")
    assert said == "40 % a b, 30 % c, 10 % d, 10 % e, 5 % f, 1 more"


def test_without_a_training_the_test_split_decides_and_the_page_says_so(judged: Path, mixscout) -> None:
    found, best = _verdict(judged), json.loads(mixscout("best", judged / "study.toml", "--json").out)
    assert found.status == "merged only: not trained yet"
    decisive = [lead for lead in found.leads if lead.measured_on == MERGED["test"]]
    assert list(found.leads[: len(decisive)]) == decisive and len(decisive) == 4, "the split that chose comes last"
    for lead in decisive:
        told = best["baselines"][lead.baseline.replace(" ", "_")]["behind"]["test"]
        assert lead.better == told["difference"]
        assert (lead.side != "unclear") == told["told_apart"]
    unbeaten = [lead for lead in decisive if lead.side != "better"]
    assert found.side == (unbeaten[0].side if unbeaten else "better")


@pytest.mark.parametrize(("shift", "side"), [(-100.0, "better"), (100.0, "worse")])
def test_what_was_really_trained_decides(judged: Path, tmp_path: Path, shift: float, side: str) -> None:
    shutil.copytree(judged, root := tmp_path / "root")
    with workbench(read_study_file(root / "study.toml")) as bench:
        _confirm(bench, shift=shift)
    found = _verdict(root)
    assert (found.status, found.side) == ("really trained", side)
    assert side in found.claim and found.leads[0].measured_on == TRAINED
    assert found.headline.endswith(", really trained.")
    with open_to_read(read_study_file(root / "study.toml")) as bench:
        section = best_section(Facts.of(bench, root / "study.toml"))
    assert section.commands == ["mixscout confirm study.toml"]
    axes = section.charts[0].draw().axes[0]
    assert {"uniform", "proportional", "seed"} <= {one.get_text() for one in axes.get_yticklabels()}
    assert COLOURS[side] in {line.get_color() for line in axes.lines}


def test_the_answer_of_refine_is_shown_with_its_own_intervals(judged: Path, tmp_path: Path) -> None:
    shutil.copytree(judged, root := tmp_path / "root")
    study = optuna.load_study(storage=f"sqlite:///{root / 'mixscout.db'}", study_name="tiny")
    leads = {
        "uniform": {"ahead": {"value": 0.2, "low": 0.15, "high": 0.31}, "known": False},
        "proportional": {"ahead": {"value": 0.01, "low": -0.05, "high": 0.07}, "known": True},
    }
    answer = {"mixture": {"code": 0.2, "docs": 0.3, "prose": 0.5}, "baselines": leads, "truths": {"budget": 3}}
    study.set_user_attr(REFINED, answer)
    found = _verdict(root)
    assert found.train_on.replace("\N{NO-BREAK SPACE}", " ") == "50 % prose, 30 % docs, 20 % code"
    assert found.status == "really trained, by mixscout refine" and found.side == "unclear"
    expected = (
        "cannot be told from proportional (+0.010 ± 0.060 nats per token); 0.200 (0.150 to 0.310) better than uniform"
    )
    assert found.claim == expected
    with open_to_read(read_study_file(root / "study.toml")) as bench:
        section = best_section(Facts.of(bench, root / "study.toml"))
    assert section.commands == ["mixscout refine study.toml --truths 3"] and section.notes[0] == BY_TRAININGS
