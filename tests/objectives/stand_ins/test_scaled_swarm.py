"""A swarm at a target scale: predicted better from another scale's runs than by them or without them."""

import numpy as np
import pytest

from objectives.held_out import Floats
from objectives.stand_ins.scaled_swarm import ScaledSwarm, proxies
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.stand_ins.tabulated_loss import FittedSwarm, TabulatedLoss
from objectives.target import Goal
from pool.mixture import Mixture
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import ConformalSurrogate, Observations, normal_quantile

NAMES = ("code", "docs", "prose")
COVERAGE = 0.9


def _fit(weights: Floats, values: Floats) -> ConformalSurrogate:
    surrogate = ConformalSurrogate(ScheffeSurrogate(), coverage=COVERAGE)
    surrogate.fit(Observations.of_values(weights, values))
    return surrogate


def _table(weights: Floats, *, optimum: tuple[float, float, float], offset: float, noise: float = 0.0) -> SwarmTable:
    """Losses offset + |w - optimum|^2, and twice that, with noise."""
    rng = np.random.default_rng(len(weights))
    loss = offset + ((weights - np.array(optimum)) ** 2).sum(axis=1)
    metrics = {"tales": loss, "manuals": 2 * loss}
    noisy = {name: values + noise * rng.standard_normal(len(values)) for name, values in metrics.items()}
    return SwarmTable(tuple(f"r{row}" for row in range(len(weights))), NAMES, weights, noisy)


MANY = np.random.default_rng(1).dirichlet(np.ones(3), size=30)
NEW = np.random.default_rng(2).dirichlet(np.ones(3), size=200)
SMALL, LARGE = (0.2, 0.3, 0.5), (0.35, 0.15, 0.5)
"""The optimum moves with the scale."""
TRUE = _table(NEW, optimum=LARGE, offset=2.0).metrics["tales"]


def _swarm(target: SwarmTable, **others: SwarmTable) -> ScaledSwarm:
    fitted = {name: FittedSwarm(table, _fit, method="scheffe") for name, table in others.items()}
    return ScaledSwarm("large", target, fitted, ("tales", "manuals"), coverage=COVERAGE)


@pytest.fixture(scope="module")
def swarm() -> ScaledSwarm:
    small = _table(MANY, optimum=SMALL, offset=3.0, noise=0.01)
    return _swarm(_table(MANY[:6], optimum=LARGE, offset=2.0), small=small)


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def test_few_runs_at_the_target_and_many_below_predict_an_optimum_that_moved(swarm: ScaledSwarm) -> None:
    mean, deviation = swarm.predict(["tales"], NEW)
    small = swarm.others["small"].predict(["tales"], NEW)[0][0]
    below = _rmse(small - small.mean() - TRUE + TRUE.mean())  # the small scale alone, its offset forgiven
    assert _rmse(mean[0] - TRUE) < below / 2
    inside = np.abs(mean[0] - TRUE) <= normal_quantile(COVERAGE) * deviation[0]
    assert inside.mean() >= COVERAGE


def test_a_run_is_predicted_without_itself(swarm: ScaledSwarm) -> None:
    table = swarm.table
    other = {**table.metrics, "tales": table.metrics["tales"] + np.eye(6)[0]}
    changed = _swarm(SwarmTable(table.runs, NAMES, table.weights, other), small=swarm.others["small"].table)
    before, after = (one.out_of_fold(["manuals", "tales"])[0][1] for one in (swarm, changed))
    assert abs(after[0] - before[0]) < 0.2 and abs(after[1:] - before[1:]).max() > 0.02


def test_the_scale_with_the_least_errors_on_the_target_s_runs_predicts(swarm: ScaledSwarm) -> None:
    alike, useless = (_table(MANY, optimum=at, offset=3.0, noise=0.01) for at in (LARGE, (0.9, 0.1, 0.0)))
    both, alone = _swarm(swarm.table, useless=useless, small=alike), _swarm(swarm.table, small=alike)
    assert both.source == "small"
    assert np.array_equal(both.predict(["tales"], NEW[:3]), alone.predict(["tales"], NEW[:3]))
    assert _rmse(both.errors["useless"]) > 2 * _rmse(both.errors["small"])


def test_two_runs_at_the_target_suffice(swarm: ScaledSwarm) -> None:
    two = _swarm(swarm.table.take([0, 1]), small=swarm.others["small"].table)
    mean, deviation = two.predict(["tales"], NEW)
    assert np.isfinite(mean).all() and (deviation > 0).all()
    assert np.corrcoef(mean[0], TRUE)[0, 1] > 0.8


def test_a_mixture_without_a_run_at_the_other_scale_is_less_certain(swarm: ScaledSwarm) -> None:
    small = swarm.others["small"]
    mean, variance = proxies(small, ["tales"], np.array([MANY[10], NEW[0]]))
    assert variance[0, 0] == 0 and variance[1, 0] > 0
    predicted = small.predict(["tales"], MANY[10][None])[0][0, 0]
    assert mean[0, 0] == pytest.approx((predicted + small.table.metrics["tales"][10]) / 2)


def test_errors_of_metrics_go_together(swarm: ScaledSwarm) -> None:
    goal = Goal.of({"tales": 0.5, "manuals": 0.5})
    found = TabulatedLoss(swarm, goal)(Mixture.uniform(NAMES))
    _, deviations = swarm.predict(goal.domains, np.full((1, 3), 1 / 3))
    apart = float(np.sqrt((0.25 * deviations**2).sum()))
    assert apart < found.standard_error < 0.5 * deviations.sum()


def test_a_scale_more_or_less_is_another_objective(swarm: ScaledSwarm) -> None:
    small = swarm.others["small"].table
    swarms = swarm, _swarm(swarm.table, small=small.take(range(20))), _swarm(swarm.table, tiny=small)
    assert len({one.digest for one in swarms}) == 3
    assert len(swarm.places) == 30  # the target's mixtures are among them
