"""Merge rules: weights that sum to one, vertices left alone, gradients that are right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.merging.rules import SMALLEST, CommonSpecific, Identity, MergeRule, Power, make_rule

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
