"""`mixscout ablate --factors`: whether the best mixture depends on the merge rule or on the members' recipe."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_table import write_small_study

from objectives.agreement.statistics import Interval
from objectives.merging.rules import make_rule
from objectives.scoring.paired import PairedDifference
from pool.config.recipe import Recipe
from pool.mixture import Mixture
from studies.assessment.ablation.ablation import Combination, FactorAblation, Outcome, TwoSettings

RULES = "rule=identity,power:0.5"


@pytest.fixture(scope="module")
def factors_root(begun_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose study has a few merges. Only `ablate --factors` writes into it."""
    folder = tmp_path_factory.mktemp("factors") / "root"
    shutil.copytree(begun_root, folder)
    return folder


def _found(mixscout: Callable, root: Path, *factors: str) -> dict:
    asked = [word for factor in factors for word in ("--factors", factor)]
    answer = mixscout("ablate", root / "study.toml", *asked, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_rules_need_no_training_and_a_second_run_repeats_the_answer(factors_root: Path, mixscout: Callable) -> None:
    found = _found(mixscout, factors_root, RULES)
    assert not (factors_root / "pools" / "tiny" / "trained").exists()
    assert [one["rule"] for one in found["settings"]] == ["identity", "power:0.5"]
    (pair,) = found["pairs"]
    assert -1 <= pair["spearman"]["low"] <= pair["spearman"]["value"] <= pair["spearman"]["high"] <= 1
    assert set(found["factors"]) == {"rule"} and found["margin"] > 0
    assert _found(mixscout, factors_root, RULES) == found
    shown = mixscout("ablate", factors_root / "study.toml", "--factors", RULES).out
    assert found["factors"]["rule"]["verdict"] in " ".join(shown.split())


def test_members_of_another_recipe_are_trained_once_and_the_pool_s_own_are_reused(
    factors_root: Path, mixscout: Callable
) -> None:
    costs = mixscout(
        "ablate", factors_root / "study.toml", "--factors", "recipe.tokens=6_000,3_000", "--dry-run", "--json"
    )
    assert costs.code == 0 and json.loads(costs.out)["runs"] == 3, costs.err
    before = _models(factors_root)
    found = _found(mixscout, factors_root, RULES, "recipe.tokens=6_000,3_000")
    assert len(_models(factors_root)) == len(before) + 3
    assert [(one["rule"], one["recipe.tokens"]) for one in found["settings"]] == [
        ("identity", "6_000"),
        ("power:0.5", "6_000"),
        ("identity", "3_000"),
        ("power:0.5", "3_000"),
    ]
    alone = _found(mixscout, factors_root, RULES)
    assert found["settings"][0]["value"] == pytest.approx(alone["settings"][0]["value"], abs=1e-9)
    shorter = found["settings"][2]["design"]
    assert shorter != pytest.approx(found["settings"][0]["design"], abs=1e-3), "other members have other losses"
    after = _models(factors_root)
    assert _found(mixscout, factors_root, "recipe.tokens=6_000,3_000")["settings"][1]["design"] == shorter
    assert _models(factors_root) == after, "nothing was trained again"


def _models(root: Path) -> dict[str, int]:
    found = sorted((root / "pools" / "tiny").glob("trained/*/model.safetensors"))
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (["speed=1,2"], "'speed' is no factor; give rule, or recipe.KEY"),
        (["recipe.speed=1,2"], "'recipe.speed' is no factor"),
        (["rule=identity"], "a factor takes two values or more, such as rule=A,B"),
        (["rule=identity,median"], "no merge rule 'median'; there are identity, power, common-specific, fisher"),
        (["rule=power:0,power:1"], "the exponent of a merge rule must be above 0: got 0.0"),
        (["rule=power:a,power:1"], "write identity, or power:0.65"),
        (["recipe.tokens=0,10"], "--factors recipe.tokens: Input should be greater than or equal to 1"),
        ([RULES, "recipe.tokens=1,2,3,4,5,6,7,8,9"], "18 settings are more than 16; give fewer values"),
    ],
)
def test_a_factor_that_cannot_be_is_refused(
    factors_root: Path, mixscout: Callable, factors: list[str], message: str
) -> None:
    asked = [word for factor in factors for word in ("--factors", factor)]
    answer = mixscout("ablate", factors_root / "study.toml", *asked)
    assert answer.code == 1 and message in answer.err and len(answer.err.splitlines()) <= 3


def test_a_table_is_refused(tmp_path: Path, mixscout: Callable) -> None:
    answer = mixscout("ablate", write_small_study(tmp_path), "--factors", RULES)
    assert answer.code == 1 and "on a table" in answer.err


def _ablation(*regrets: tuple[float, float]) -> FactorAblation:
    """Two factors of two values; settings that differ in `tokens` alone have the given regrets and errors."""
    values = [{"rule": rule, "tokens": tokens} for tokens in "12" for rule in ("identity", "power")]
    settings = [Combination(one, make_rule("identity", 1), Recipe()) for one in values]
    outcomes = [Outcome(one, Mixture.uniform("ab"), 1.0, (1.0, 2.0)) for one in settings]
    small = PairedDifference(0.0, 0.1, 9)
    paired = [PairedDifference(difference, error, 9) for difference, error in regrets]
    told = {(0, 2): (paired[0], small), (1, 3): (small, paired[1])}
    places = [(one, other) for one in range(4) for other in range(one + 1, 4)]
    pairs = [TwoSettings(two, Interval(0.5 + 0.1 * two[0], 0.2, 0.9), told.get(two, (small, small))) for two in places]
    return FactorAblation("s", "nats-per-token", outcomes, pairs, margin=0.01)


@pytest.mark.parametrize(
    ("regrets", "depends"),
    [
        (((0.5, 0.01), (0.0, 0.1)), True),
        (((0.0, 0.1), (0.5, 0.01)), True),
        (((0.5, 0.5), (0.1, 0.2)), False),  # by chance
        (((0.005, 0.0001), (0.0, 0.1)), False),  # small
    ],
)
def test_a_factor_matters_beyond_chance_and_beyond_what_is_small(
    regrets: tuple[tuple[float, float], ...], depends: bool
) -> None:
    found = _ablation(*regrets)
    assert found.depends_on("tokens") is depends and found.depends_on("rule") is False
    assert len(found.pairs_of("tokens")) == len(found.pairs_of("rule")) == 2
    assert found.verdict("tokens").startswith(
        f"The best mixture {'depends' if depends else 'does not depend'} on tokens"
    )
    assert "Least rank correlation of mixtures: 0.500" in found.verdict("tokens")
