"""The mixture space: every point is a feasible mixture, and every feasible mixture is a point."""

import numpy as np
import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from pool.mixture import Mixture
from search.space import CappedSimplex, project_to_capped_simplex


@st.composite
def spaces(draw: st.DrawFn, all_members: bool = False) -> CappedSimplex:
    count = draw(st.integers(1, 9))
    members = count if all_members else draw(st.integers(1, count))
    caps = tuple(draw(st.lists(st.floats(1 / members, 1), min_size=count, max_size=count)))
    if members == count:  # then smaller caps can still be feasible
        spare = sum(caps) - 1
        caps = tuple(max(0.01, cap - draw(st.floats(0, 1)) * spare / count) for cap in caps)
        assume(sum(caps) >= 1)
    return CappedSimplex(tuple(f"p{i}" for i in range(count)), caps, members)


@st.composite
def points(draw: st.DrawFn, all_members: bool = False) -> tuple[CappedSimplex, np.ndarray]:
    space = draw(spaces(all_members))
    count = len(space.names)
    return space, np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count)))


def _feasible(space: CappedSimplex, mixture: Mixture) -> bool:
    within = all(weight <= cap + 1e-9 for weight, cap in zip(mixture.weights, space.caps, strict=True))
    return within and len(mixture.support) <= space.max_members


@given(points())
def test_every_point_of_the_cube_becomes_a_feasible_mixture(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    assert _feasible(space, space.project(z))


@given(points())
def test_a_feasible_mixture_is_its_own_parameters(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    mixture = space.project(z)
    assert np.allclose(space.project(mixture.array).array, mixture.array, atol=1e-9)
    assert space.parameters(mixture) == pytest.approx(mixture.as_dict(), abs=1e-9)


@given(points(all_members=True))
def test_the_projection_is_the_nearest_point(case: tuple[CappedSimplex, np.ndarray]) -> None:
    space, z = case
    caps = np.array(space.caps)
    ours = project_to_capped_simplex(z, caps)
    theirs = minimize(
        lambda w: ((w - z) ** 2).sum(),
        caps / caps.sum(),
        jac=lambda w: 2 * (w - z),
        bounds=[(0, cap) for cap in caps],
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert ((ours - z) ** 2).sum() <= ((theirs.x - z) ** 2).sum() + 1e-7


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


@pytest.mark.parametrize(
    ("caps", "members", "message"),
    [
        ((0.0, 1.0), 2, "cap of 'a' must be above 0"),
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
