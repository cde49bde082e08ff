"""Predictions by all merge rules: the truths weigh the rules, and intervals hold what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.agreement.rule_average import LEAST_SHARE, LEAST_TRUTHS, RuleAverage

RULES = ("identity", "power", "other")


def some_problem(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Return 48 mixtures of four partitions, their proxies by rule in three outputs, and truths.

    The truths follow the rule `power`, shifted; the others err by what they make of dominated mixtures.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(4), size=48)
    right = 3 + 0.3 * np.sqrt(weights) @ rng.normal(size=(4, 3))
    off = 0.06 * rng.normal(size=(48, 3))
    proxies = {"identity": right + off, "power": right, "other": right + 2 * off}
    truth = 0.1 + right + 0.004 * rng.normal(size=(48, 3))
    return weights, proxies, truth


def _first(proxies: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {rule: proxy[:count] for rule, proxy in proxies.items()}


def test_the_rule_that_the_truths_follow_is_weighed_most_and_predicts_best() -> None:
    for seed in range(4):
        weights, proxies, truth = some_problem(seed)
        average = RuleAverage.fit(weights[:8], _first(proxies, 8), truth[:8])
        assert next(iter(average.models)) == "power" and average.shares["power"] > 0.9
        predicted = average.predict(weights[8:], {rule: proxy[8:] for rule, proxy in proxies.items()}).mean
        alone = RuleAverage.fit(weights[:8], {"identity": proxies["identity"][:8]}, truth[:8])
        by_identity = alone.predict(weights[8:], {"identity": proxies["identity"][8:]}).mean
        assert np.abs(predicted - truth[8:]).mean() < 0.4 * np.abs(by_identity - truth[8:]).mean()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.integers(LEAST_TRUTHS, 14))
def test_shares_sum_to_one_and_none_is_small(seed: int, count: int) -> None:
    weights, proxies, truth = some_problem(seed)
    average = RuleAverage.fit(weights[:count], _first(proxies, count), truth[:count])
    assert sum(average.shares.values()) == pytest.approx(1)
    assert set(average.shares) == set(average.models) <= set(RULES)
    assert min(average.shares.values()) >= LEAST_SHARE


@pytest.mark.parametrize("count", [7, 14])
def test_intervals_hold_about_their_share_of_new_truths(count: int) -> None:
    held = []
    for seed in range(8):
        weights, proxies, truth = some_problem(seed)
        two = {rule: proxies[rule] for rule in ("identity", "other")}
        average = RuleAverage.fit(weights[:count], _first(two, count), truth[:count])
        rest = {rule: proxy[count:] for rule, proxy in two.items()}
        for output in range(3):
            intervals = average.intervals(weights[count:], rest, output)
            held += [one.low <= value <= one.high for one, value in zip(intervals, truth[count:, output], strict=True)]
    assert 0.83 <= np.mean(held) <= 0.99


def test_one_output_of_many_mixtures_is_predicted_as_all_are() -> None:
    weights, proxies, truth = some_problem(3)
    two = {rule: proxies[rule] for rule in ("identity", "other")}
    average = RuleAverage.fit(weights[:9], _first(two, 9), truth[:9])
    both = average.predict(weights, two).mean
    for output in range(3):
        alone = average.means_of(output, weights, {rule: proxy[:, output] for rule, proxy in two.items()})
        assert alone == pytest.approx(both[:, output], abs=1e-12)


def test_a_truth_left_out_is_predicted_as_by_an_average_that_never_saw_it() -> None:
    weights, proxies, truth = some_problem(5)
    two = {rule: proxies[rule] for rule in ("identity", "other")}
    average = RuleAverage.fit(weights[:10], _first(two, 10), truth[:10])
    for left in (0, 4, 9):
        others = np.delete(np.arange(10), left)
        without = RuleAverage.fit(weights[others], {rule: two[rule][others] for rule in two}, truth[others])
        asked = without.predict(weights[left : left + 1], {rule: two[rule][left : left + 1] for rule in two})
        assert average.left_out.mean[left] == pytest.approx(asked.mean[0], abs=0.02)
    errors = truth[:10] - average.left_out.mean
    assert average.rmse(1) == pytest.approx(np.sqrt((errors[:, 1] ** 2).mean()))


def test_too_few_truths_are_refused() -> None:
    weights, proxies, truth = some_problem(0)
    with pytest.raises(ValueError, match="takes 6 trained mixtures or more: there are 5"):
        RuleAverage.fit(weights[:5], _first(proxies, 5), truth[:5])
