"""Promises of `Mixture`."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.mixture import Mixture, published

amounts = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(lambda values: sum(values) > 1e-3)


@given(amounts)
def test_proportional_gives_a_valid_mixture_in_the_order_given(values: list[float]) -> None:
    mixture = Mixture.proportional({f"p{i}": value for i, value in enumerate(values)})
    assert math.isclose(sum(mixture.weights), 1, abs_tol=1e-9)
    assert np.allclose(mixture.array * sum(values), values)


@given(amounts, st.randoms())
def test_digest_does_not_depend_on_order_or_on_zero_weights(values: list[float], random) -> None:
    mixture = Mixture.proportional({f"p{i}": value for i, value in enumerate(values)})
    items = [*mixture.as_dict().items(), ("unused", 0.0)]
    random.shuffle(items)
    assert Mixture.of(dict(items)).digest == mixture.digest


def test_digest_tells_different_mixtures_apart() -> None:
    assert Mixture.of({"a": 0.5, "b": 0.5}).digest != Mixture.of({"a": 0.5, "c": 0.5}).digest
    assert Mixture.of({"a": 0.5, "b": 0.5}).digest != Mixture.of({"a": 0.500001, "b": 0.499999}).digest


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.5, "b": 0.4}, "sum to 1: they sum to 0.9"),
        ({"a": 1.5, "b": -0.5}, "'b' must be finite and >= 0"),
        ({"a": float("nan"), "b": 1.0}, "'a' must be finite"),
        ({}, "one weight per partition"),
    ],
)
def test_what_is_no_mixture_is_refused_by_name(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture.of(weights)


def test_repeated_partition_and_length_mismatch_are_refused() -> None:
    with pytest.raises(ValueError, match="more than once"):
        Mixture(("a", "a"), (0.5, 0.5))
    with pytest.raises(ValueError, match="one weight per partition"):
        Mixture(("a", "b"), (1.0,))


def test_vertex_support_and_reordering() -> None:
    vertex = Mixture.vertex(("a", "b", "c"), "b")
    assert vertex.support == ("b",)
    assert vertex.over(("b", "new", "a")).weights == (1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="no partition 'x'"):
        Mixture.vertex(("a",), "x")
    with pytest.raises(ValueError, match="partitions that are not there: b"):
        vertex.over(("a", "c"))


def test_proportional_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive finite sum"):
        Mixture.proportional({"a": 0.0})


TAKEN: dict[str, tuple[dict[str, float], dict[str, float], str]] = {
    "an exact sum": ({"a": 0.25, "b": 0.75}, {"a": 0.25, "b": 0.75}, ""),
    "DoReMi's rounding": ({"a": 0.6001, "b": 0.4}, {"a": 0.6001 / 1.0001, "b": 0.4 / 1.0001}, "sum to 1.0001: divided"),
    "thirds at two decimals": (dict.fromkeys("abc", 0.332), dict.fromkeys("abc", 1 / 3), "sum to 0.996: divided by it"),
    "percent": ({"a": 60, "b": 40}, {"a": 0.6, "b": 0.4}, "sum to 100, as percent: divided by it"),
    "rounded percent": ({"a": 60, "b": 40.3}, {"a": 60 / 100.3, "b": 40.3 / 100.3}, "sum to 100.3, as percent"),
    "a solver's zero": ({"a": -1e-17, "b": 1.0}, {"a": 0.0, "b": 1.0}, ""),
}


@pytest.mark.parametrize("case", TAKEN)
def test_weights_as_people_publish_them_are_taken_and_changes_are_said(case: str) -> None:
    weights, expected, note = TAKEN[case]
    mixture, said = published(weights)
    assert mixture.as_dict() == pytest.approx(expected, abs=1e-15) and note in said and bool(note) == bool(said)


def test_any_positive_sum_is_taken_where_that_is_asked_for() -> None:
    counts = {"a": 3e9, "b": 1e9}
    with pytest.raises(ValueError, match="sum to 4000000000; divide each by 4e"):
        published(counts)
    mixture, said = published(counts, normalise=True)
    assert mixture.as_dict() == {"a": 0.75, "b": 0.25} and said == "weights sum to 4e+09: divided by it"
    for nothing in ({"a": 0.0}, {"a": -0.5, "b": 1.5}, {"a": math.inf}):
        with pytest.raises(ValueError):
            published(nothing, normalise=True)
