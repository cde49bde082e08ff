"""UniMax: as even as repetition allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.designs import unimax

TOKENS = {"big": 1000, "small": 10, "middle": 100}


def test_a_budget_that_repeats_nothing_too_often_is_spread_evenly() -> None:
    assert unimax(TOKENS, 30, 1.0).as_dict() == pytest.approx({"big": 1 / 3, "small": 1 / 3, "middle": 1 / 3})


def test_small_partitions_are_used_up_and_the_rest_is_spread_evenly() -> None:
    shares = unimax(TOKENS, 210, 1.0).as_dict()
    assert shares == pytest.approx({"big": 100 / 210, "small": 10 / 210, "middle": 100 / 210})
    shares = unimax(TOKENS, 320, 1.0).as_dict()
    assert shares == pytest.approx({"big": 210 / 320, "small": 10 / 320, "middle": 100 / 320})
    assert unimax(TOKENS, 210, 4.0).as_dict()["small"] == pytest.approx(40 / 210)


def test_a_budget_beyond_all_epochs_is_proportional_to_tokens() -> None:
    assert unimax(TOKENS, 10_000, 1.0).as_dict()["small"] == pytest.approx(10 / 1110)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8), st.floats(1, 1e10), st.floats(0.1, 8))
def test_nothing_is_repeated_too_often_and_smaller_ones_get_no_more(
    tokens: list[int], budget: float, epochs: float
) -> None:
    sizes = {f"p{k}": count for k, count in enumerate(tokens)}
    spent = min(budget, epochs * sum(tokens))
    shares = unimax(sizes, budget, epochs).as_dict()
    for name, share in shares.items():
        assert share * spent <= sizes[name] * epochs * (1 + 1e-9)
        assert all(share <= shares[other] + 1e-12 for other in sizes if sizes[other] >= sizes[name])


@pytest.mark.parametrize(("budget", "epochs"), [(0, 1.0), (10, 0.0), (float("nan"), 1.0)])
def test_a_budget_of_nothing_is_refused(budget: float, epochs: float) -> None:
    with pytest.raises(ValueError, match="budget and epochs must be above 0"):
        unimax(TOKENS, budget, epochs)
