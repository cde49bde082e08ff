"""The mixture space: every point is a feasible mixture, and every feasible mixture is a point."""

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pool.mixture import Mixture
from search.space import CappedSimplex


@st.composite
def spaces(draw: st.DrawFn, all_members: bool = False) -> CappedSimplex:
    """A space with caps, floors, fixed and excluded partitions, around a mixture that it is sure to contain."""
    count = draw(st.integers(1, 9))
    members = count if all_members else draw(st.integers(1, count))
    within = np.zeros(count)
    support = draw(st.permutations(range(count)))[:members]
    within[support] = draw(st.lists(st.floats(0.01, 1), min_size=members, max_size=members))
    within /= within.sum()
    floors, caps = within.copy(), within.copy()
    for k in range(count):
        kind = draw(st.sampled_from(["fixed", "capped", "floored", "free"]))  # fixed at zero is excluded
        if kind != "fixed":
            caps[k] += draw(st.floats(0, 1)) * (1 - caps[k])
            floors[k] *= draw(st.floats(0, 1)) if kind == "floored" else 0.0
    return CappedSimplex(tuple(f"p{i}" for i in range(count)), tuple(caps), members, tuple(floors))


@st.composite
def points(draw: st.DrawFn, all_members: bool = False) -> tuple[CappedSimplex, np.ndarray]:
    space = draw(spaces(all_members))
    count = len(space.names)
    return space, np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))


def _feasible(space: CappedSimplex, mixture: Mixture) -> bool:
    bounds = zip(space.floors, mixture.weights, space.caps, strict=True)
    within = all(floor <= weight <= cap for floor, weight, cap in bounds)
    return within and len(mixture.support) <= space.max_members


def _nearest(space: CappedSimplex, z: np.ndarray) -> np.ndarray:
    """Find the projection by bisection on the multiplier of the sum."""
    low, high = z.min() - 1.0, z.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(z - middle, space.floors, space.caps).sum() > 1 else (low, middle)
    return np.clip(z - high, space.floors, space.caps)


@given(points())
def test_every_point_of_the_cube_becomes_a_feasible_mixture(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    mixture = space.project(z)
    assert _feasible(space, mixture)
    assert space.contains(mixture)


@given(points())
def test_a_feasible_mixture_is_its_own_parameters(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    mixture = space.project(z)
    assert np.allclose(space.project(mixture.array).array, mixture.array, atol=1e-9)
    free = {name: weight for name, weight in mixture.as_dict().items() if name in space.free}
    assert space.parameters(mixture) == pytest.approx(free, abs=1e-9)
    assert np.allclose(space.project(space.point_of(free)).array, mixture.array, atol=1e-9)


@given(points(all_members=True))
def test_the_projection_is_the_nearest_point(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    assert space.project(z).array == pytest.approx(_nearest(space, z), abs=1e-9)


@settings(max_examples=30)
@given(points(all_members=True))
def test_no_general_solver_finds_a_nearer_point(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    ours = space.project(z).array
    theirs = minimize(
        lambda w: ((w - z) ** 2).sum(),
        ours,
        jac=lambda w: 2 * (w - z),
        bounds=list(zip(space.floors, space.caps, strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert ((ours - z) ** 2).sum() <= ((theirs.x - z) ** 2).sum() + 1e-7


@given(points())
def test_fixed_and_excluded_weights_are_exact_and_have_no_parameter(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    weights = space.project(z).as_dict()
    for name, floor, cap in zip(space.names, space.floors, space.caps, strict=True):
        if floor == cap:
            assert weights[name] == floor
            assert name not in space.free and name not in space.distributions


def test_a_partition_with_a_floor_is_a_member_before_larger_coordinates() -> None:
    space = CappedSimplex.of(("a", "b", "c"), floors={"c": 0.1}, max_members=2)
    assert space.project([0.9, 0.8, 0.0]).as_dict() == {"a": 0.9, "b": 0.0, "c": pytest.approx(0.1)}


def test_an_excluded_partition_is_no_member_however_large_its_coordinate() -> None:
    space = CappedSimplex.of(("a", "b", "c"), caps={"a": 0.0}, max_members=1)
    assert space.project([1.0, 0.2, 0.1]).weights == (0.0, 1.0, 0.0)
    assert space.allowed == space.free == ("b", "c")


def test_a_fixed_weight_is_kept_and_the_rest_is_shared() -> None:
    space = CappedSimplex.of(("a", "b", "c"), caps={"a": 0.4}, floors={"a": 0.4})
    assert space.project([0.0, 0.5, 0.5]).weights == pytest.approx((0.4, 0.3, 0.3))
    assert space.parameters(Mixture.uniform(space.names)) == pytest.approx({"b": 0.3, "c": 0.3})


def test_exact_zeros_come_by_themselves() -> None:
    space = CappedSimplex.of(("a", "b", "c"))
    assert space.project([1.0, 0.6, 0.0]).weights == pytest.approx((0.7, 0.3, 0.0))
    assert space.project([1.0, 0.6, 0.0]).support == ("a", "b")


def test_max_members_keeps_the_largest_coordinates_that_can_reach_one() -> None:
    space = CappedSimplex.of(("a", "b", "c"), caps={"a": 0.2, "b": 0.5}, max_members=2)
    assert space.project([1.0, 0.9, 0.1]).support == ("a", "c")


def test_infeasible_caps_are_refused_with_the_sum_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"3 largest caps sum to 0.9, which is less than 1; raise max_epochs"):
        CappedSimplex.of(("a", "b", "c"), caps={"a": 0.3, "b": 0.3, "c": 0.3})
    with pytest.raises(ValueError, match="2 largest caps sum to 0.8"):
        CappedSimplex.of(("a", "b", "c"), caps={"a": 0.4, "b": 0.4, "c": 0.4}, max_members=2)


INFEASIBLE = {
    "floors above one": ({"a": 0.7, "b": 0.7}, {}, 3, "floors and fixed weights sum to 1.4, which is more than 1"),
    "more floors than members": (
        {"a": 0.1, "b": 0.1},
        {},
        1,
        r"2 partitions have a floor or a fixed weight \(a, b\), but max_members is 1; raise it",
    ),
    "a floor above its cap": ({"a": 0.5}, {"a": 0.3}, 3, "floor of 'a' must be from 0 to its cap 0.3: got 0.5; lower"),
    "a floor that takes the place of a large cap": (
        {"a": 0.1},
        {"a": 0.1, "b": 0.8, "c": 0.8},
        2,
        "the 2 caps that count .* sum to 0.9",
    ),
    "everything excluded": ({}, dict.fromkeys("abc", 0.0), 3, "the 3 largest caps sum to 0,"),
    "fixed weights below one": (
        dict.fromkeys("abc", 0.3),
        dict.fromkeys("abc", 0.3),
        3,
        "sum to 0.9, which is less than 1; raise max_epochs, caps, fixed weights",
    ),
}


@pytest.mark.parametrize("case", INFEASIBLE)
def test_what_cannot_be_is_said_with_the_way_out(case: str) -> None:
    floors, caps, members, message = INFEASIBLE[case]
    with pytest.raises(ValueError, match=message):
        CappedSimplex.of(("a", "b", "c"), caps=caps, floors=floors, max_members=members)


def test_a_floor_for_every_partition_is_asked_for() -> None:
    with pytest.raises(ValueError, match="one floor per partition: got 1 for 2"):
        CappedSimplex(("a", "b"), (1.0, 1.0), 2, (0.5,))


@pytest.mark.parametrize(
    ("caps", "members", "message"),
    [
        ((-0.1, 1.0), 2, "cap of 'a' must be from 0 to 1"),
        ((1.0, 1.5), 2, "cap of 'b' must be"),
        ((1.0, 1.0), 3, "max_members must be from 1 to 2: got 3"),
        ((1.0,), 1, "one cap per partition"),
    ],
)
def test_what_is_no_space_is_refused(caps: tuple[float, ...], members: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CappedSimplex(("a", "b"), caps, members)


def test_a_trial_and_its_record_give_the_same_mixture() -> None:
    space = CappedSimplex.of(("a", "b", "c"), max_members=2)
    study = optuna.create_study()
    trial = study.ask()
    mixture = space.suggest(trial)
    frozen = study.tell(trial, 1.0)
    assert space.mixture_of(frozen) == mixture


def test_an_enqueued_mixture_is_the_mixture_suggested() -> None:
    space = CappedSimplex.of(("a", "b", "c"))
    study = optuna.create_study()
    study.enqueue_trial(space.parameters(Mixture.of({"c": 0.75, "a": 0.25})))
    assert space.suggest(study.ask()).as_dict() == pytest.approx({"a": 0.25, "b": 0.0, "c": 0.75})


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_many_points_are_projected_as_each_of_them(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = tuple(f"p{i}" for i in range(count))
    points = rng.normal(0.2, rng.choice([0.01, 0.3, 3.0]), size=(5, count))
    for space in (CappedSimplex.of(names), CappedSimplex.of(names, max_members=(count + 1) // 2)):
        together = space.weights_of(points)
        assert together == pytest.approx(np.stack([space.weights(point) for point in points]), abs=1e-9)
        assert together.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
