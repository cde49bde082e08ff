"""Merge rules: weights that sum to one, vertices left alone, gradients that are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.merging.rules import DAMPING, SMALLEST, CommonSpecific, Fisher, Identity, MergeRule, Power, make_rule

RULES = [Identity(), Power(0.5), Power(1.0), Power(2.0), CommonSpecific(0.5), CommonSpecific(1.0)]
points = st.lists(st.floats(0.01, 1), min_size=2, max_size=9).map(lambda values: np.array(values) / sum(values))


@pytest.fixture(params=RULES, ids=str)
def rule(request: pytest.FixtureRequest) -> MergeRule:
    return request.param


@given(points)
def test_weights_sum_to_one(p: np.ndarray) -> None:
    for rule in RULES:
        assert rule.weights(p).sum() == pytest.approx(1, abs=1e-12)


def test_a_vertex_stays_a_vertex_exactly(rule: MergeRule) -> None:
    for count in range(1, 12):
        for vertex in np.eye(count):
            assert np.array_equal(rule.weights(vertex), vertex)


def test_uniform_stays_uniform(rule: MergeRule) -> None:
    assert np.allclose(rule.weights(np.full(5, 0.2)), 0.2)


@given(points, st.integers(0, 2**20))
def test_the_pullback_is_the_transposed_jacobian(p: np.ndarray, seed: int) -> None:
    gradient = np.random.default_rng(seed).normal(size=len(p))
    for rule in RULES:
        pulled = rule.pullback(p, gradient)
        for j, step in enumerate(np.eye(len(p)) * 1e-6):
            difference = (rule.weights(p + step) - rule.weights(p - step)) @ gradient / 2e-6
            assert pulled[j] == pytest.approx(difference, rel=1e-5, abs=1e-6)


@given(points)
def test_the_mixture_of_merge_weights_is_the_one_they_came_from(p: np.ndarray) -> None:
    for rule in RULES:
        back = rule.mixture(rule.weights(p))
        assert back is not None and np.allclose(back, p, atol=1e-9)


def test_not_all_merge_weights_have_a_mixture(rule: MergeRule) -> None:
    for vertex in np.eye(4):
        back = rule.mixture(vertex)
        assert back is not None and np.allclose(back, vertex, atol=1e-12)
    assert rule.mixture(np.array([1.5, -0.2, -0.3])) is None


def test_gradients_stay_finite_at_zero_weights(rule: MergeRule) -> None:
    p = np.array([0.5, 0.5, 0.0])
    assert np.all(np.isfinite(rule.pullback(p, np.array([1.0, 2.0, -1.0]))))
    assert SMALLEST < 0.01


def test_an_exponent_of_one_is_the_identity() -> None:
    p = np.array([0.5, 0.3, 0.2])
    assert np.allclose(Power(1.0).weights(p), p)
    assert np.allclose(CommonSpecific(1.0).weights(p), p)


def test_common_specific_weights_may_be_negative() -> None:
    assert CommonSpecific(0.5).weights(np.array([0.45, 0.45, 0.1, 0.0])).min() < 0


def test_rules_have_different_digests() -> None:
    assert len({str(rule.digest_parts) for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("name", "exponent"), [("sqrt", 0.5), ("power", 0.0), ("power", float("nan"))])
def test_what_is_no_rule_is_refused(name: str, exponent: float) -> None:
    with pytest.raises(ValueError, match="merge rule"):
        make_rule(name, exponent)


def _fisher(count: int, *, rows: int = 7, seed: int = 0, exponent: float = 0.7) -> Fisher:
    """Information over three orders of magnitude, with a member that has none in half of the rows."""
    information = 10 ** np.random.default_rng(seed).uniform(-6, -3, size=(count, rows))
    information[0, ::2] = 0
    return Fisher(exponent, information)


@given(points, st.integers(0, 2**20))
def test_weights_of_every_row_sum_to_one_and_a_vertex_stays_a_vertex(p: np.ndarray, seed: int) -> None:
    rule = _fisher(len(p), seed=seed)
    assert np.allclose(rule.weights(p).sum(axis=0), 1, atol=1e-12)
    for vertex in np.eye(len(p)):
        assert np.array_equal(rule.weights(vertex), np.repeat(vertex[:, None], 7, axis=1))


def test_equal_information_leaves_the_powers() -> None:
    p = np.array([0.5, 0.3, 0.2])
    rows = Fisher(0.6, np.full((3, 4), 2e-5)).weights(p)
    assert np.allclose(rows, Power(0.6).weights(p)[:, None])


def test_a_row_follows_the_member_that_needs_it() -> None:
    information = np.array([[9e-4, 1e-6], [1e-6, 1e-6]])
    first, second = Fisher(1.0, information).weights(np.array([0.5, 0.5])).T
    assert first[0] > 0.99 and second[0] > 0.9  # the second row only by the damping of the larger mean
    assert DAMPING < 1


@given(points, st.integers(0, 2**20))
def test_the_pullback_by_rows_is_the_transposed_jacobian(p: np.ndarray, seed: int) -> None:
    rule = _fisher(len(p), seed=seed)
    gradient = np.random.default_rng(seed).normal(size=(len(p), 7))
    pulled = rule.pullback(p, gradient)
    for j, step in enumerate(np.eye(len(p)) * 1e-6):
        difference = ((rule.weights(p + step) - rule.weights(p - step)) * gradient).sum() / 2e-6
        assert pulled[j] == pytest.approx(difference, rel=1e-4, abs=1e-5)


def test_a_member_that_is_not_merged_changes_no_row() -> None:
    p, other = np.array([0.4, 0.6, 0.0]), _fisher(3)
    assert other.information is not None
    changed = other.information.copy()
    changed[2] *= 50
    assert np.array_equal(other.weights(p)[:2], Fisher(0.7, changed).weights(p)[:2])


def test_information_that_was_not_measured_is_asked_for() -> None:
    with pytest.raises(ValueError, match="was not measured"):
        make_rule("fisher", 0.7).weights(np.array([0.5, 0.5]))
