"""The verb `robustness`, end to end on the tiny pool: one set of figures with `best`, and noise that hurts."""

import json
from pathlib import Path

import pytest
from tiny import edit

from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.parts.store import Pool
from studies.answers.robustness import Condition
from studies.answers.score import Score

CONTENDERS = ["best", "uniform", "proportional", "best_single_member", "seed"]
PERTURBED = ["character-noise", "lower-case", "upper-case"]


@pytest.fixture
def studied(root: Path, mixscout) -> Path:
    """A root whose study has a few merges."""
    answer = mixscout("search", root / "study.toml", "--merges", 6)
    assert answer.code == 0, answer.err
    return root


def test_robustness_prints_the_promised_object(studied: Path, mixscout) -> None:
    answer = mixscout("robustness", studied / "study.toml", "--json", "--noise", 0.2)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    best = json.loads(mixscout("best", studied / "study.toml", "--json").out)
    plain = found["conditions"]["plain"]
    assert (found["study"], found["noise"], found["noise_seed"]) == ("tiny", 0.2, 0)
    assert found["mixture"] == best["mixture"]
    assert list(found["conditions"]) == ["plain", *PERTURBED]

    for name in CONTENDERS:
        expected = (best if name == "best" else best["baselines"][name])["test"]
        for key in ("bits_per_byte", "loss_nats"):
            assert plain["contenders"][name][key] == pytest.approx(expected[key], rel=1e-6)
            for domain, figures in expected["domains"].items():
                assert plain["contenders"][name]["domains"][domain][key] == pytest.approx(figures[key], rel=1e-6)

    for kind in PERTURBED:
        condition = found["conditions"][kind]
        assert list(condition["contenders"]) == CONTENDERS and condition["documents"] == plain["documents"]
        assert sorted(condition["order"]) == sorted(plain["order"])
        assert condition["same_order_as_plain"] == (condition["order"] == plain["order"])
        assert -1 <= condition["spearman_with_plain"] <= 1
        for name, rise in condition["rises"].items():
            bits = [where["contenders"][name]["bits_per_byte"] for where in (condition, plain)]
            assert rise == pytest.approx(bits[0] - bits[1])
    assert all(rise > 0 for rise in found["conditions"]["character-noise"]["rises"].values())
    _check_differences(found)


def _check_differences(found: dict) -> None:
    for condition in [*found["conditions"].values(), found["out_of_domain"]]:
        bits = {name: score["bits_per_byte"] for name, score in condition["contenders"].items()}
        assert list(condition["behind"]) == CONTENDERS[1:]
        for name, paired in condition["behind"].items():
            assert paired["difference"] == pytest.approx(bits[name] - bits["best"], abs=1e-9)
            assert paired["told_apart"] == (abs(paired["difference"]) > 1.96 * paired["standard_error"])


def test_out_of_domain_is_every_domain_that_the_goal_does_not_use(studied: Path, tiny_pool: Pool, mixscout) -> None:
    outside = json.loads(mixscout("robustness", studied / "study.toml", "--json").out)["out_of_domain"]
    windows = tiny_pool.corpus.held_out["test"]
    for score in outside["contenders"].values():
        assert set(score["domains"]) == {"code", "docs"}
        bits = [figures["bits_per_byte"] for figures in score["domains"].values()]
        assert score["bits_per_byte"] == pytest.approx(sum(bits) / 2)
    assert outside["tokens"] == windows["code"].tokens + windows["docs"].tokens
    assert "rises" not in outside, "other text has no plain text that it was made from"


def test_a_goal_of_every_domain_leaves_nothing_out_of_domain(studied: Path, mixscout) -> None:
    edit(studied / "study.toml", 'name = "tiny"', 'name = "everything"')
    domains = 'domains = ["code", "docs", "prose", "licences"]'
    edit(
        studied / "study.toml",
        "[target]\nlicences = 0.6\nprose = 0.4",
        f"[objective]\naggregate = 'worst-excess'\n{domains}",
    )
    assert mixscout("search", studied / "study.toml", "--merges", 5).code == 0
    found = json.loads(mixscout("robustness", studied / "study.toml", "--json").out)
    assert found["out_of_domain"] == {}
    scores = found["conditions"]["plain"]["contenders"]["seed"]
    assert scores["value"] == max(one["bits_per_byte"] for one in scores["domains"].values())
    people = mixscout("robustness", studied / "study.toml")
    assert "the study's goal uses every held-out domain of the pool" in people.out
    assert people.out.splitlines()[-1].startswith("next: mixscout confirm ")


def test_a_best_mixture_that_is_a_baseline_is_ranked_once_and_never_told_apart_from_it(root: Path, mixscout) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 4).code == 0, "uniform and the vertices, no proposal"
    found = json.loads(mixscout("robustness", root / "study.toml", "--json").out)
    for condition in [*found["conditions"].values(), found["out_of_domain"]]:
        equal = [name for name, paired in condition["behind"].items() if paired["difference"] == 0]
        assert equal in (["uniform"], ["best_single_member"])
        assert not condition["behind"][equal[0]]["told_apart"]
        assert sorted(condition["order"]) == sorted(set(CONTENDERS) - set(equal))


def test_the_seed_of_the_noise_decides_the_noise_and_nothing_else(studied: Path, mixscout) -> None:
    command = ("robustness", studied / "study.toml", "--json")
    first = mixscout(*command).out
    assert mixscout(*command).out == first
    one, other = (json.loads(text)["conditions"] for text in (first, mixscout(*command, "--seed", 1).out))
    assert one["character-noise"] != other["character-noise"]
    assert [one[kind] for kind in ("plain", "lower-case", "upper-case")] == [
        other[kind] for kind in ("plain", "lower-case", "upper-case")
    ]


def test_robustness_for_people_says_what_can_be_compared(studied: Path, mixscout) -> None:
    answer = mixscout("robustness", studied / "study.toml")
    assert answer.code == 0, answer.err
    assert "test split (character noise 0.05, seed 0)" in answer.out
    assert "the rows are of other tokens, so compare within a row only" in answer.out
    for condition in ("character noise", "lower case", "upper case", "out of domain"):
        assert f"{condition}: the order is" in answer.out
    assert "Out of domain, bits per byte" in answer.out and "code" in answer.out and "docs" in answer.out


def test_a_study_that_was_not_started_is_one_line_and_no_database(root: Path, mixscout) -> None:
    answer = mixscout("robustness", root / "study.toml")
    assert answer.code == 1
    assert answer.err.startswith("mixscout: no study 'tiny' in ") and "run `mixscout search " in answer.err
    assert not (root / "mixscout.db").exists()


def test_robustness_explains_itself_and_refuses_a_noise_that_is_no_probability(root: Path, mixscout) -> None:
    helped = mixscout("robustness", "--help")
    assert helped.code == 0 and "Usage:" in helped.out and "Example" in helped.out
    assert mixscout("robustness", root / "study.toml", "--noise", 1.5).code == 2


def test_a_rank_correlation_of_equal_losses_is_none(tiny_pool: Pool) -> None:
    goal = Goal.of({"prose": 1.0}, measure="bits-per-byte")
    table = WindowTable.of(tiny_pool.corpus.held_out["test"], goal.domains)
    score = Score(goal, table, table.tokens.astype(float))
    equal = Condition({"best": score, "uniform": score}, ("best", "uniform"))
    assert equal.spearman(equal) is None
    assert not equal.behind["uniform"].told_apart
