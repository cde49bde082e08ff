"""Our strategies in a user's own Optuna study."""

import optuna
import pytest

import mixscout
from objectives.stand_ins.analytic import QuadraticLoss
from search.strategies.registry import STRATEGIES

NAMES = ("code", "news", "wiki")
BEST = mixscout.Mixture(NAMES, (0.2, 0.0, 0.8))
LOSS = QuadraticLoss(BEST, [1.0, 2.0, 3.0], floor=3.0)
SPACE = mixscout.MixtureSpace.of(NAMES)


def _with_gradient(trial: optuna.Trial) -> float:
    value: float = mixscout.record(trial, LOSS.gradient(SPACE.suggest(trial)))
    return value


def _without(trial: optuna.Trial) -> float:
    return LOSS(SPACE.suggest(trial)).value


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"gradient"}))
def test_a_strategy_proposes_into_a_study_of_the_user(name: str) -> None:
    study = optuna.create_study(sampler=mixscout.MixtureSampler(name, SPACE, seed=0))
    study.optimize(_without, n_trials=12)
    assert len({SPACE.mixture_of(trial).digest for trial in study.get_trials()}) > 6
    assert all(set(trial.params) == set(NAMES) for trial in study.get_trials())


@pytest.mark.parametrize("name", ["gradient", "auto"])
def test_recorded_gradients_lead_to_the_optimum(name: str) -> None:
    study = optuna.create_study(sampler=mixscout.MixtureSampler(name, SPACE, seed=0))
    study.optimize(_with_gradient, n_trials=25)
    assert study.best_value == pytest.approx(3.0, abs=1e-3)


def test_a_strategy_that_needs_gradients_refuses_to_run_without() -> None:
    study = optuna.create_study(sampler=mixscout.MixtureSampler("gradient", SPACE))
    with pytest.raises(ValueError, match=r"'gradient' needs gradients, .* return mixscout\.record\(trial, loss\.grad"):
        study.optimize(_without, n_trials=3)


def test_a_study_of_another_direction_is_refused() -> None:
    study = optuna.create_study(sampler=mixscout.MixtureSampler("tpe", SPACE), direction="maximize")
    with pytest.raises(ValueError, match="'tpe' minimises"):
        study.optimize(_without, n_trials=1)
    several = optuna.create_study(sampler=mixscout.MixtureSampler("greedy", SPACE), directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="'greedy' follows one objective: .*; use one of .*nsga2"):
        several.optimize(lambda trial: (_without(trial), 1.0), n_trials=1)


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="unknown strategy 'best'; use auto, "):
        mixscout.MixtureSampler("best", SPACE)
