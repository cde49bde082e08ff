"""Promises of aggregates, constraints and several targets: values, slopes, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.aggregates import AGGREGATES, Aggregate
from objectives.held_out import Floats, HeldOutLoss
from objectives.target import PENALTY, Goal, Target

REFERENCES = {"a": 1.0, "b": 2.5}


def _losses(a: float, b: float, c: float = 1.0) -> dict[str, HeldOutLoss]:
    def loss(mean: float, tokens: int) -> HeldOutLoss:
        counts = np.array([tokens, tokens])
        return HeldOutLoss.of_windows(counts * mean, counts, 3 * counts, np.array([0, 1]), words=tokens)

    return {"a": loss(a, 10), "b": loss(b, 30), "c": loss(c, 20)}


def _target(aggregate: Aggregate) -> Goal:
    references = REFERENCES if aggregate == "worst-excess" else {}
    return Goal.of(Target({"a": 0.75, "b": 0.25}, aggregate, references=references))


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [
        ("weighted", 0.75 * 2 + 0.25 * 3),
        ("macro", 2.5),
        ("micro", (2 * 10 + 3 * 30) / 40),
        ("worst", 3.0),
        ("worst-excess", 1.0),
    ],
)
def test_each_aggregate_is_what_its_name_says(aggregate: Aggregate, value: float) -> None:
    assert _target(aggregate).value(_losses(2.0, 3.0)) == pytest.approx(value)


def test_bits_per_byte_are_aggregated_over_bytes() -> None:
    target = Goal.of({"a": 0.5, "b": 0.5}, measure="bits-per-byte")
    assert target.value(_losses(2.0, 3.0)) == pytest.approx(2.5 / 3 / math.log(2))
    assert target.loss_nats(_losses(2.0, 3.0)) == pytest.approx(2.5)


GOALS: list[Goal] = [
    *(_target(aggregate) for aggregate in AGGREGATES),
    Goal.of(Target({"a": 1.0}, ceilings={"c": 0.9})),
    Goal.of(Target({"a": 1.0}, ceilings={"c": 2.0, "a": 1.5})),
    Goal({"one": Target({"a": 1.0}), "two": Target({"b": 0.5, "c": 0.5}, ceilings={"a": 1.2})}),
    Goal({"one": Target({"a": 1.0}), "two": Target({"b": 0.5, "c": 0.5}, ceilings={"c": 1.2}, direction="maximise")}),
]


@pytest.mark.parametrize("goal", GOALS, ids=str)
@given(st.lists(st.floats(0.5, 4), min_size=3, max_size=3))
def test_slopes_are_the_derivatives_of_the_value(goal: Goal, means: list[float]) -> None:
    losses = _losses(*means)
    measures, sizes = goal.measures(losses), goal.sizes(losses)
    slopes, step = goal.slopes_of(measures, sizes), 1e-6
    for e in range(len(measures)):
        moved = np.eye(len(measures))[e] * step
        up, down = (goal.value_of(measures + sign * moved, sizes) for sign in (1, -1))
        if _is_smooth(goal, measures, moved):
            assert slopes[e] == pytest.approx((up - down) / (2 * step), abs=1e-5)


def _is_smooth(goal: Goal, measures: Floats, moved: Floats) -> bool:
    sizes = np.ones(len(measures))
    return np.array_equal(goal.slopes_of(measures + moved, sizes), goal.slopes_of(measures - moved, sizes))


def test_a_broken_constraint_costs_more_than_it_could_gain_and_a_kept_one_nothing() -> None:
    target = Goal.of(Target({"a": 1.0}, ceilings={"c": 1.1}))
    assert target.domains == ("a", "c")
    kept, broken = _losses(2.0, 0.0, 1.0), _losses(1.9, 0.0, 1.2)
    assert target.value(kept) == 2.0
    assert target.value(broken) == pytest.approx(1.9 + PENALTY * 0.1)
    assert target.violations(kept) == pytest.approx({"c": -0.1})
    assert target.violations(broken) == pytest.approx({"c": 0.1})
    assert target.loss_nats(broken) == pytest.approx(1.9), "shown without the penalty"


def test_a_plain_goal_is_its_aggregate_without_penalties_in_any_measure() -> None:
    constrained = Target({"a": 0.5, "b": 0.5}, ceilings={"c": 3.0})
    excess = Target({"a": 0.5, "b": 0.5}, "worst-excess", references={"a": 1.0, "b": 2.0})
    in_bits = Goal.of({"a": 0.5, "b": 0.5}, measure="bits-per-byte")
    assert Goal.of(constrained).plain("bits-per-byte") == in_bits
    worst = Target({"a": 0.5, "b": 0.5}, "worst", "bits-per-byte")
    assert Goal.of(excess).plain("bits-per-byte") == Goal.of(worst)
    several = Goal({"x": constrained, "y": excess}).plain("bits-per-byte")
    assert len(several.targets) == 2 and several.measure == "bits-per-byte" and several.domains == ("a", "b")


def test_a_single_target_is_digested_without_a_name() -> None:
    target = Target({"a": 1.0})
    assert Goal({"any": target}).digest_parts == Goal.of(target).digest_parts == target.digest_parts
    two = {"one": target, "two": Target({"b": 1.0})}
    assert Goal(two).digest_parts == {name: one.digest_parts for name, one in two.items()}


def test_several_targets_have_their_own_values_and_their_mean() -> None:
    targets = Goal({"one": Target({"a": 1.0}), "two": Target({"b": 1.0})})
    assert targets.values(_losses(2.0, 4.0)) == (2.0, 4.0)
    assert targets.value(_losses(2.0, 4.0)) == 3.0
    with pytest.raises(ValueError, match="at least one target"):
        Goal({})
    with pytest.raises(ValueError, match="one measure"):
        Goal({"one": Target({"a": 1.0}), "two": Target({"b": 1.0}, measure="bits-per-byte")})


def test_an_excess_needs_something_to_be_in_excess_of() -> None:
    with pytest.raises(ValueError, match="'b' has none"):
        Target({"a": 0.5, "b": 0.5}, "worst-excess", references={"a": 1.0})


def test_the_standard_error_of_the_worst_domain_is_that_domain_s() -> None:
    rng = np.random.default_rng(0)

    def noisy(mean: float) -> HeldOutLoss:
        counts = np.full(20, 10)
        return HeldOutLoss.of_windows(10 * mean + rng.normal(size=20), counts, counts, np.arange(20), words=20)

    losses = {"a": noisy(2.0), "b": noisy(3.0)}
    assert _target("worst").standard_error(losses) == losses["b"].standard_error
    both = math.hypot(0.75 * losses["a"].standard_error, 0.25 * losses["b"].standard_error)
    assert _target("weighted").standard_error(losses) == pytest.approx(both)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3), st.floats(-4, 4))
def test_maximised_measures_are_worth_as_much_as_their_negatives_minimised(
    aggregate: Aggregate, measures: list[float], bound: float
) -> None:
    weights, sizes, values = {"a": 0.75, "b": 0.25}, np.array([10.0, 30.0, 20.0]), np.array(measures)
    negated = {name: -reference for name, reference in REFERENCES.items()}
    up = Target(weights, aggregate, references=REFERENCES, ceilings={"c": bound}, direction="maximise")
    down = Target(weights, aggregate, references=negated, ceilings={"c": -bound})
    assert up.value(values, sizes) == down.value(-values, sizes)
    assert up.slopes(values, sizes).tolist() == (-down.slopes(-values, sizes)).tolist()
    assert Goal.of(up).violations_of(np.array(measures)) == {"c": bound - measures[2]}, "the bound is a lower one"


def test_only_values_of_one_direction_are_shown_with_their_own_sign() -> None:
    loss, score = Target({"a": 1.0}), Target({"b": 1.0}, direction="maximise")
    assert (Goal.of(loss).shown(-0.5), Goal.of(score).shown(-0.5)) == (-0.5, 0.5)
    both = Goal({"loss": loss, "score": score})
    assert both.two_ways and both.direction == "minimise" and both.maximised == {"b"}
    assert both.values_of(np.array([2.0, 0.5]), np.ones(2)) == (2.0, -0.5)
    assert both.shown(both.value_of(np.array([2.0, 0.5]), np.ones(2))) == 0.75


def test_a_direction_is_in_a_digest_only_where_more_is_better() -> None:
    assert "direction" not in Target({"a": 1.0}).digest_parts
    assert Target({"a": 1.0}, direction="maximise").digest_parts["direction"] == "maximise"


def test_a_measure_in_two_targets_has_one_direction() -> None:
    with pytest.raises(ValueError, match="'a' is minimised by one target and maximised by another"):
        Goal({"one": Target({"a": 1.0}), "two": Target({"a": 0.5, "b": 0.5}, direction="maximise")})
