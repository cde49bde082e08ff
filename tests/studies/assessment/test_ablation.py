"""The verb `ablate`, end to end on the tiny pool: sums that must agree, nothing merged twice, readable files."""

import csv
import json
import math
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from tiny import edit

from pool.mixture import Mixture
from studies.assessment.ablation.contributions import Game, first_order, restricted, with_added, without
from studies.assessment.ablation.evidence import DomainEvidence
from studies.assessment.ablation.path import TOLERANCE
from studies.assessment.ablation.ranking import Noise, draw_documents, resampled, spearman, spread
from studies.assessment.ablation.run import AblationRequest, run_ablation
from studies.opened.on_pool import Workbench, workbench
from studies.study_file.study_file import read_study_file
from studies.terminal import json_text

NAMES = ("code", "docs", "prose")
DOMAINS = ("licences", "prose", "code", "docs")


@pytest.fixture(scope="module")
def ablated_root(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose study has a few merges. Only verbs that remember write into it."""
    folder = tmp_path_factory.mktemp("ablated") / "root"
    shutil.copytree(begun_root, folder)
    return folder


@pytest.fixture
def bench(ablated_root: Path) -> Iterator[Workbench]:
    with workbench(read_study_file(ablated_root / "study.toml"), must_exist=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def found(ablated_root: Path) -> dict:
    """What a first ablation finds, as it is printed."""
    with workbench(read_study_file(ablated_root / "study.toml"), must_exist=True) as bench:
        ablation = run_ablation(bench, bench.known_study(), AblationRequest(64, Noise(0.05, 0)))
    return json.loads(json_text(ablation.as_json()))


def _columns(row: dict) -> np.ndarray:
    assert tuple(row["domains"]) == DOMAINS
    return np.array([row["goal"], *row["domains"].values()])


def _values(found: dict, quantity: str) -> dict[str, np.ndarray]:
    return {name: _columns(row) for name, row in found["contributions"][quantity]["values"].items()}


def test_shapley_values_sum_to_what_the_uniform_merge_gains_on_the_seed_in_every_column(found: dict) -> None:
    losses = {name: _columns(row) for name, row in found["losses"].items()}
    values = _values(found, "shapley")
    assert tuple(values) == NAMES
    assert sum(values.values()) == pytest.approx(losses["seed"] - losses["uniform"], abs=1e-9)
    assert found["shapley"]["exact"] and "all 7 coalitions" in found["shapley"]["method"]
    weights = {"licences": 0.6, "prose": 0.4}
    for row in found["losses"].values():
        assert row["goal"] == pytest.approx(sum(weight * row["domains"][name] for name, weight in weights.items()))


def test_the_path_from_the_seed_adds_up_to_what_the_best_merge_gains(found: dict) -> None:
    losses = {name: _columns(row) for name, row in found["losses"].items()}
    total = sum(_values(found, "path-to-best").values())
    gained = losses["seed"] - losses["best"]
    assert total == pytest.approx(gained, abs=TOLERANCE * np.abs(gained).max())


def test_a_member_s_own_domain_is_where_it_is_missed_and_single_partitions_are_against_the_seed(
    found: dict, bench: Workbench
) -> None:
    evidence = DomainEvidence(bench, "search")
    seed = evidence.values(None)
    for name, row in _values(found, "alone").items():
        assert row == pytest.approx(seed - evidence.values(Mixture.vertex(NAMES, name)))
    rest = Mixture.of({"code": 0.5, "docs": 0.5, "prose": 0.0})
    left = _values(found, "uniform-without")["prose"]
    assert left == pytest.approx(evidence.values(rest) - evidence.values(Mixture.uniform(NAMES)))
    for name in NAMES:
        own = _values(found, "uniform-without")[name][1 + DOMAINS.index(name)]
        assert own == max(row[1 + DOMAINS.index(name)] for row in _values(found, "uniform-without").values())
    assert evidence.merged == 0, "all of it was remembered"


def test_the_gradient_predicts_small_removals_and_additions(bench: Workbench) -> None:
    evidence = DomainEvidence(bench, "search")
    mixture = Mixture.of({"code": 0.49, "docs": 0.01, "prose": 0.5})
    predicted = first_order(evidence, mixture)
    removed = evidence.values(without(mixture, "docs")) - evidence.values(mixture)
    assert predicted["best-without-predicted"].values[1] == pytest.approx(removed, rel=0.1, abs=2e-4)
    step = 0.01
    added = evidence.values(mixture) - evidence.values(with_added(mixture, "code", step))
    assert predicted["added-to-best-predicted"].values[0] * 3 * step == pytest.approx(added, rel=0.1, abs=2e-4)


def test_asked_again_nothing_is_merged_and_object_and_files_say_the_same(
    ablated_root: Path, found: dict, mixscout: Callable
) -> None:
    def rows() -> int:
        with sqlite3.connect(ablated_root / "mixscout.db") as database:
            return int(database.execute("select count(*) from evaluations").fetchone()[0])

    before = rows()
    answer = mixscout("ablate", ablated_root / "study.toml", "--json")
    assert answer.code == 0, answer.err
    again = json.loads(answer.out)
    assert found["merged"] > 0 and again.pop("merged") == 0 and rows() == before
    assert again == {key: value for key, value in found.items() if key != "merged"}
    _check_files(ablated_root / "reports", found)


def _check_files(reports: Path, found: dict) -> None:
    with (reports / "tiny-ablation-uniform-search.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found["contributions"]) * len(NAMES) * (1 + len(DOMAINS))
    for row in rows:
        quantity = found["contributions"][row["quantity"]]
        for key, part in (("contribution", quantity["values"]), ("standard_error", quantity["standard_errors"])):
            columns = part and part[row["partition"]]
            value = columns and (columns["goal"] if row["is_goal"] == "True" else columns["domains"][row["domain"]])
            assert (float(row[key]) if row[key] else None) == value
    picture = imread(reports / "tiny-ablation-uniform-search.png")
    assert picture.shape[0] > 100 and picture.std() > 0.05


def test_the_worst_mixture_is_worse_than_every_evaluated_one_and_best_is_best(found: dict, bench: Workbench) -> None:
    losses = {name: row["goal"] for name, row in found["losses"].items()}
    assert losses["best"] <= losses["uniform"] <= losses["worst"]
    evidence = DomainEvidence(bench, "search")
    assert all(evidence.values(Mixture.vertex(NAMES, name))[0] <= losses["worst"] + 1e-12 for name in NAMES)


def test_ablate_for_people_says_how_values_were_found_and_how_far_they_hold(
    ablated_root: Path, mixscout: Callable
) -> None:
    answer = mixscout("ablate", ablated_root / "study.toml", "--game", "best", "--split", "test", "--goal-only")
    assert answer.out.splitlines()[-1].startswith("next: mixscout report ")
    assert answer.code == 0, answer.err
    assert "test split" in answer.out and "Shapley values of the best mixture: exact" in answer.out
    assert "1 licences; 2 prose\n" in answer.out
    assert "on the search split" in answer.out and "on text with character noise" in answer.out
    assert "worst mixture:" in answer.out and "tiny-ablation-best-test.csv" in answer.out
    assert "scheffe cross terms" in answer.out or "shapley interaction index" in answer.out


def test_too_few_merges_and_a_study_that_was_not_started_are_one_line(
    ablated_root: Path, root: Path, mixscout: Callable
) -> None:
    old = mixscout("ablate", ablated_root / "study.toml", "--merges", 3)
    assert old.code == 1 and "--merges is called --coalitions here" in old.err
    few = mixscout("ablate", ablated_root / "study.toml", "--coalitions", 3)
    assert few.code == 1
    assert few.err.startswith("mixscout: --coalitions 3 is too few for the Shapley values of 3 partitions")
    none = mixscout("ablate", root / "study.toml")
    assert none.code == 1 and "no study 'tiny'" in none.err and not (root / "mixscout.db").exists()
    assert mixscout("ablate", root / "study.toml", "--game", "other").code == 2


def test_partitions_without_weight_in_the_whole_are_no_players_and_nothing_left_is_the_seed() -> None:
    whole = Mixture.of({"code": 0.0, "docs": 0.25, "prose": 0.75})
    game = Game(whole)
    assert game.players == ("docs", "prose")
    assert game.model(np.array([False, False])) is None
    assert game.model(np.array([True, False])) == Mixture.vertex(NAMES, "docs")
    assert restricted(whole, NAMES) == whole
    assert without(whole, "code") == whole and without(Mixture.vertex(NAMES, "docs"), "docs") is None
    assert with_added(whole, "code", 0.2).weights == pytest.approx((0.2, 0.2, 0.6))


def test_the_bootstrap_keeps_the_figures_of_all_documents_in_its_middle_and_knows_no_error_of_one_document(
    bench: Workbench,
) -> None:
    evidence = DomainEvidence(bench, "search")
    models = [None, *(Mixture.vertex(NAMES, name) for name in NAMES)]
    nats = np.stack([evidence.nats(model) for model in models])
    once = tuple(np.ones((1, drawn.shape[1])) for drawn in draw_documents(evidence.table, np.random.default_rng(0)))
    whole = np.stack([evidence.values(model) for model in models])
    assert resampled(evidence.goal, evidence.table, nats, once)[0] == pytest.approx(whole)
    draws = draw_documents(evidence.table, np.random.default_rng(1))
    assert all((drawn.sum(axis=1) == drawn.shape[1]).all() for drawn in draws)
    figures = resampled(evidence.goal, evidence.table, nats, draws)
    differences = figures[:, 0] - figures[:, 1]
    errors = spread(draws, evidence.goal, evidence.table, differences)
    analytic = [one.standard_error for one in evidence.differences(None, models[1])]
    assert errors == pytest.approx(analytic, rel=0.35), "two ways to one error, over few documents"
    alone = tuple(np.ones((2, 1)) if e == 0 else drawn[:2] for e, drawn in enumerate(draws))
    single = spread(alone, evidence.goal, evidence.table, differences[:2])
    assert math.isinf(single[0]) and math.isinf(single[1]) and np.isfinite(single[2:]).all()


def test_the_rank_correlation_is_the_usual_one_and_none_where_a_ranking_is_constant() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(2)
    for first, second in combinations(rng.integers(0, 5, size=(6, 7)).astype(float), 2):
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman(np.ones(4), np.arange(4.0)) is None


def test_a_goal_with_a_ceiling_and_every_domain_is_ablated_too(ablated_root: Path, mixscout: Callable) -> None:
    study = ablated_root / "ceiling.toml"
    study.write_text((ablated_root / "study.toml").read_text())
    edit(study, 'name = "tiny"', 'name = "ceiling"')
    edit(study, "[target]\nlicences = 0.6\nprose = 0.4", "[constraints]\ncode = -0.05\n\n[target]\nprose = 1.0")
    assert mixscout("search", study, "--merges", 5).code == 0
    answer = mixscout("ablate", study, "--json", "--goal-only")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    losses, goal = found["losses"], sum(row["goal"] for row in found["contributions"]["shapley"]["values"].values())
    assert goal == pytest.approx(losses["seed"]["goal"] - losses["uniform"]["goal"])
    assert losses["seed"]["goal"] == pytest.approx(losses["seed"]["domains"]["prose"] + 10 * 0.05), "the penalty counts"
