"""Promises of `Mixture`."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.mixture import Mixture

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
