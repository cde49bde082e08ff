"""Analytic objectives: the optimum they carry is the optimum, and what they say of regret is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.stand_ins.analytic import AnalyticLoss, QuadraticLoss, kkt_residual, one_percent_regret, regret
from objectives.stand_ins.problems import (
    BEST_NATS,
    SIZES,
    SPREAD_NATS,
    ExponentialLawLoss,
    LinearLawLoss,
    ScheffeLoss,
    available,
    problem,
    problems,
)
from pool.mixture import Mixture

PROBLEMS = problems(seed=3)
NAMES = ("a", "b", "c")
FACE = Mixture.from_array(NAMES, [0.7, 0.3, 0])


@pytest.fixture(params=PROBLEMS)
def objective(request: pytest.FixtureRequest) -> AnalyticLoss:
    return PROBLEMS[request.param]


def _mixtures(count: int, partitions: int, seed: int, concentration: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(partitions, concentration), size=count)


@given(
    name=st.sampled_from(sorted(PROBLEMS)),
    seed=st.integers(0, 2**32),
    concentration=st.floats(0.02, 5),
    toward=st.floats(0, 1),
)
@settings(deadline=None)
def test_no_mixture_is_below_the_optimum(name: str, seed: int, concentration: float, toward: float) -> None:
    objective = PROBLEMS[name]
    drawn = _mixtures(8, len(objective.partitions), seed, concentration)
    nearer = toward * objective.optimum.array + (1 - toward) * drawn
    assert objective.exact(np.vstack([drawn, nearer])).min() >= objective.best_value - 1e-12


def test_no_vertex_and_no_exchange_of_two_weights_is_below_the_optimum(objective: AnalyticLoss) -> None:
    count = len(objective.partitions)
    best, rng = objective.optimum.array, np.random.default_rng(0)
    exchanged = np.repeat(best[None], 500, axis=0)
    pairs = rng.integers(count, size=(500, 2))
    rows = np.arange(500)
    moved = rng.random(500) * exchanged[rows, pairs[:, 0]]
    exchanged[rows, pairs[:, 0]] -= moved
    exchanged[rows, pairs[:, 1]] += moved
    assert objective.exact(np.vstack([np.eye(count), exchanged])).min() >= objective.best_value - 1e-12


def test_the_gradient_agrees_with_central_differences(objective: AnalyticLoss) -> None:
    count = len(objective.partitions)
    for at in (*_mixtures(2, count, 1), objective.optimum.array):
        steps = 1e-5 * np.eye(count)
        differences = (objective.exact(at + steps) - objective.exact(at - steps)) / 2e-5
        assert np.allclose(objective.partials(at), differences, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("kind", "placement"), available())
@pytest.mark.parametrize("count", [3, 4, *SIZES])
def test_the_optimum_lies_where_its_name_says(kind, placement, count: int) -> None:
    used = len(problem(kind, placement, count, seed=5).optimum.support)
    assert {"inside": used == count, "face": 1 < used < count, "vertex": used == 1}[placement]


def test_the_conditions_hold_strictly_where_the_optimum_has_no_weight(objective: AnalyticLoss) -> None:
    best = objective.optimum.array
    partials = objective.partials(best)
    assert kkt_residual(partials, best) < 1e-12
    assert (partials[best == 0] > best @ partials + 1e-6).all()


def test_problems_have_a_realistic_scale(objective: AnalyticLoss) -> None:
    count = len(objective.partitions)
    values = objective.exact(_mixtures(2000, count, 9, np.sqrt(2 / count)))
    assert objective.best_value == pytest.approx(BEST_NATS, abs=1e-12)
    assert 0.8 * SPREAD_NATS < values.std() < 1.25 * SPREAD_NATS
    assert values.min() > BEST_NATS and values.max() < 5


def test_problems_are_listed_by_name_and_repeat() -> None:
    assert len(PROBLEMS) == 7 * len(SIZES)
    assert "scheffe-face-32" in PROBLEMS and "linear-inside-8" not in PROBLEMS
    again, other = problems(seed=3), problems(seed=4)
    assert [one.digest for one in again.values()] == [one.digest for one in PROBLEMS.values()]
    assert not {one.digest for one in other.values()} & {one.digest for one in PROBLEMS.values()}


def test_noise_is_of_the_mixture_and_the_seed_and_of_its_size() -> None:
    quiet = PROBLEMS["scheffe-face-8"]
    noisy = problem("scheffe", "face", 8, seed=3, noise_nats=0.01)
    mixtures = [Mixture.from_array(quiet.partitions, weights) for weights in _mixtures(400, 8, 2)]
    noise = np.array([noisy(mixture).value - quiet(mixture).value for mixture in mixtures])
    assert [noisy(mixture).value for mixture in mixtures] == [noisy(mixture).value for mixture in mixtures]
    assert noise.std() == pytest.approx(0.01, rel=0.15) and abs(noise.mean()) < 0.002
    reordered = mixtures[0].over(tuple(reversed(quiet.partitions)))
    assert noisy(reordered).value == pytest.approx(noisy(mixtures[0]).value, abs=1e-12)
    other = quiet.with_noise(0.01, seed=4)
    assert other(mixtures[0]).value != noisy(mixtures[0]).value
    assert len({quiet.digest, noisy.digest, other.digest}) == 3
    assert noisy(mixtures[0]).standard_error == 0.01 and quiet(mixtures[0]).standard_error == 0


def test_noise_touches_neither_the_gradient_nor_the_regret() -> None:
    quiet, noisy = PROBLEMS["exponential-inside-8"], PROBLEMS["exponential-inside-8"].with_noise(0.05, seed=1)
    mixture = Mixture.uniform(quiet.partitions)
    assert noisy.gradient(mixture).gradient == quiet.gradient(mixture).gradient
    assert noisy.gradient(mixture).value == noisy(mixture).value != quiet(mixture).value
    assert regret(noisy, mixture) == regret(quiet, mixture)


def test_regret_is_zero_at_the_optimum_and_a_hundred_percent_at_uniform(objective: AnalyticLoss) -> None:
    assert regret(objective, objective.optimum) == 0
    uniform = Mixture.uniform(objective.partitions)
    assert regret(objective, uniform) == pytest.approx(100 * one_percent_regret(objective))
    assert one_percent_regret(objective) > 0


def test_regret_knows_the_order_of_partitions() -> None:
    objective = QuadraticLoss(FACE, [1.0, 2.0, 3.0], floor=3.0)
    assert regret(objective, Mixture.of({"b": 0.3, "a": 0.7})) == pytest.approx(0)
    assert regret(objective, Mixture.of({"b": 1.0})) == pytest.approx(0.49 + 2 * 0.49)


def test_a_mixture_that_is_not_the_optimum_is_refused_at_birth() -> None:
    with pytest.raises(ValueError, match="is not the optimum of this formula: the optimality conditions are off by"):
        ScheffeLoss(FACE, np.array([1.0, 2.0, 3.0]), np.eye(3))
    with pytest.raises(ValueError, match="build it with `with_optimum`"):
        ExponentialLawLoss(FACE, 3.0, np.zeros(2), np.array([[1.0, 0, 0], [0, 2.0, 0]]))


def test_coefficients_that_make_no_convex_problem_are_refused() -> None:
    indefinite, lopsided = np.diag([1.0, 1, -1]), np.triu(np.ones((3, 3)))
    for quadratic in (indefinite, lopsided):
        with pytest.raises(ValueError, match="Q must be symmetric, its eigenvalues >= 0"):
            ScheffeLoss.with_optimum(FACE, quadratic, np.ones(3), best_value=3.0)
    with pytest.raises(ValueError, match="the domains' excess must be above 0"):
        ExponentialLawLoss.with_optimum(FACE, np.ones((2, 3)), np.array([1.0, 0]), np.ones(3), best_value=3.0)
    for wrong in (np.zeros(3), np.ones(2)):
        with pytest.raises(ValueError, match="expected 3 multipliers, above 0 wherever the optimum has no weight"):
            ScheffeLoss.with_optimum(FACE, np.eye(3), wrong, best_value=3.0)


def test_coefficients_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected shapes \(3,\) and \(3, 3\): got \(2,\), \(3, 3\)"):
        ScheffeLoss(FACE, np.ones(2), np.eye(3))
    with pytest.raises(ValueError, match="expected one slope for each of 3 partitions"):
        LinearLawLoss(NAMES, np.ones(2))
    with pytest.raises(ValueError, match=r"expected levels \(E,\) and slopes \(E, 3\)"):
        ExponentialLawLoss(FACE, 3.0, np.zeros(2), np.ones((3, 2)))
    with pytest.raises(ValueError, match="curvature needs 3 values above 0"):
        QuadraticLoss(FACE, [1.0, 0.0, 1.0])


def test_impossible_noise_and_impossible_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="neither it nor its seed below 0"):
        QuadraticLoss(FACE, [1.0] * 3).with_noise(-0.1, seed=0)
    with pytest.raises(ValueError, match="there is no 'face' problem of kind 'linear': there are linear vertex"):
        problem("linear", "face", 8, seed=0)
    with pytest.raises(ValueError, match="the inside problem needs at least 2 partitions: got 1"):
        problem("scheffe", "inside", 1, seed=0)
    with pytest.raises(ValueError, match="the face problem needs at least 3 partitions: got 2"):
        problem("scheffe", "face", 2, seed=0)
