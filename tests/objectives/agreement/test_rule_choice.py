"""Choosing a merge rule: by what it does near the optimum, and only beyond chance."""

import numpy as np
import pytest

from objectives.agreement.rule_choice import choose_rule, errors_of_line

COUNT = 24


def _truth() -> np.ndarray:
    return 4 + np.linspace(0, 1, COUNT) ** 2


def test_a_bias_that_calibration_takes_away_costs_nothing() -> None:
    truth = _truth()
    choice = choose_rule({"identity": truth, "biased": 2 * truth - 3}, truth, own="identity")
    by_name = {score.name: score for score in choice.scores}
    assert by_name["biased"].criterion.value == pytest.approx(by_name["identity"].criterion.value, abs=1e-6)
    assert choice.recommended == "identity" and not choice.told_apart


def test_the_rule_that_is_right_near_the_optimum_beats_the_one_with_the_better_correlation() -> None:
    truth = _truth()
    rng = np.random.default_rng(0)
    near, far = truth < np.median(truth), truth >= np.median(truth)
    good_near = truth + 0.08 * rng.normal(size=COUNT) * far
    good_far = truth.copy()
    good_far[near] = rng.permutation(truth[near])
    choice = choose_rule({"far": good_far, "near": good_near}, truth, own="far")
    by_name = {score.name: score for score in choice.scores}
    assert by_name["near"].expected_regret < by_name["far"].expected_regret
    assert choice.scores[0].name == "near" and choice.recommended == "near" and choice.told_apart
    assert by_name["near"].wins > 0.9 and by_name["near"].behind.high < 0


def test_rules_that_differ_by_chance_alone_are_not_told_apart() -> None:
    truth, kept = _truth(), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        proxies = {name: truth + 0.1 * rng.normal(size=COUNT) for name in ("own", "b", "c")}
        choice = choose_rule(proxies, truth, own="own")
        kept += choice.recommended == "own"
        assert sum(score.wins for score in choice.scores) == pytest.approx(1)
    assert kept >= 34, "another rule is recommended in few studies where none is better"


def test_few_truths_recommend_no_other_rule() -> None:
    truth = _truth()[::3]
    noisy = truth + 0.3 * np.random.default_rng(0).normal(size=len(truth))
    assert not choose_rule({"own": noisy, "perfect": truth}, truth, own="own").told_apart
    full = _truth()
    noisy = full + 0.3 * np.random.default_rng(0).normal(size=COUNT)
    assert choose_rule({"own": noisy, "perfect": full}, full, own="own").told_apart


def test_the_errors_of_the_line_are_those_of_really_leaving_one_out() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=9)
    truth = 4 + 0.8 * proxy + 0.1 * rng.normal(size=9)
    for left, error in enumerate(errors_of_line(proxy, truth)):
        slope, offset = np.polyfit(np.delete(proxy, left), np.delete(truth, left), 1)
        assert error == pytest.approx(truth[left] - offset - slope * proxy[left])
    with pytest.raises(ValueError, match="takes 6 truths or more: there are 5"):
        errors_of_line(proxy[:5], truth[:5])
