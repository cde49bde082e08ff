"""The suite of strategies: every one of them, with and without the gate, keeps these promises."""

import numpy as np
import optuna
import pytest

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture
from search.gate import Gate, GateRule
from search.loop import Search, advance
from search.per_trial_sampler import PerTrialSampler
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.strategies.strategy import Strategy
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Floats, Observations, Prediction
from search.trials import GRADIENT, START, VERDICT, completed_trials

NAMES = tuple("abcdef")
OPTIMUM = Mixture.from_array(NAMES, [0.5, 0.3, 0.2, 0, 0, 0])
OBJECTIVE = QuadraticLoss(OPTIMUM, [1.0, 2.0, 0.5, 1.0, 0.7, 3.0], floor=3.0)
START_MIXTURES = {"uniform": Mixture.uniform(NAMES)}
MERGES = 16
"""Enough for every strategy to have left its start-up behind."""
SEEDLESS = {"exhaustive"}
"""Strategies with a fixed order of proposals, until everything is visited."""


@pytest.fixture(params=STRATEGIES.values(), ids=lambda strategy: strategy.name)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return request.param


@pytest.fixture(params=[False, True], ids=["ungated", "gated"])
def gated(request: pytest.FixtureRequest) -> bool:
    return request.param


def _search(strategy: Strategy, gated: bool, space: CappedSimplex, seed: int = 0, objective=OBJECTIVE) -> Search:
    gate = Gate(GateRule(min_evidence=8), ScheffeSurrogate, seed=seed) if gated else None
    return Search(objective, space, strategy, seed, gate, START_MIXTURES)


def _proposals(study: optuna.Study) -> list[tuple[object, ...]]:
    return [
        (trial.number, trial.state, tuple(trial.params.values()), trial.value, trial.user_attrs.get(VERDICT))
        for trial in study.get_trials(deepcopy=False)
    ]


SPACES = {
    "caps": CappedSimplex.of(NAMES, caps={"a": 0.4, "c": 0.3}, max_members=3),
    "floors": CappedSimplex.of(NAMES, caps={"d": 0.05, "f": 0.0}, floors={"d": 0.05, "b": 0.1}, max_members=4),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_budget_is_spent_exactly_and_proposals_are_feasible(strategy: Strategy, gated: bool, name: str) -> None:
    space = SPACES[name]
    study = optuna.create_study()
    counts = advance(study, _search(strategy, gated, space), 20)
    assert counts.merges == len(completed_trials(study)) == 20
    assert gated or counts.pruned == counts.audited == 0
    for trial in study.get_trials(deepcopy=False):
        weights = space.mixture_of(trial).array
        assert (weights <= np.array(space.caps) + 1e-9).all() and (weights >= np.array(space.floors) - 1e-9).all()
        assert (weights > 0).sum() <= space.max_members
        assert tuple(trial.params) == space.free


def test_the_same_seed_makes_the_same_proposals_and_another_seed_others(strategy: Strategy, gated: bool) -> None:
    space = CappedSimplex.of(NAMES)
    studies = [optuna.create_study() for _ in range(3)]
    for study, seed in zip(studies, [1, 1, 2], strict=True):
        advance(study, _search(strategy, gated, space, seed), MERGES)
    assert _proposals(studies[0]) == _proposals(studies[1])
    if strategy.name not in SEEDLESS:
        assert _proposals(studies[0]) != _proposals(studies[2])


def test_advancing_in_parts_equals_advancing_in_one_go(strategy: Strategy, gated: bool) -> None:
    space = CappedSimplex.of(NAMES)
    whole, parts = optuna.create_study(), optuna.create_study()
    advance(whole, _search(strategy, gated, space), 16)
    for total in (5, 10, 10, 16):
        advance(parts, _search(strategy, gated, space), total)
    assert _proposals(parts) == _proposals(whole)


class _InterruptedError(Exception):
    pass


def test_a_search_interrupted_between_two_parameters_goes_on_as_if_it_had_not_been(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = CappedSimplex.of(NAMES)
    whole, parts = optuna.create_study(), optuna.create_study()
    advance(whole, _search(strategy, False, space), 15)
    original, calls = optuna.Trial.suggest_float, 0

    def interrupted(self, *arguments: object) -> float:
        nonlocal calls
        calls += 1
        if calls in {2 * 6 + 3, 5 * 6 + 4, 13 * 6 + 2}:
            raise _InterruptedError
        return original(self, *arguments)

    monkeypatch.setattr(optuna.Trial, "suggest_float", interrupted)
    for _ in range(3):
        with pytest.raises(_InterruptedError):
            advance(parts, _search(strategy, False, space), 15)
    advance(parts, _search(strategy, False, space), 15)
    assert _proposals(parts) == _proposals(whole)


def test_it_beats_its_start_design(strategy: Strategy, gated: bool) -> None:
    study = optuna.create_study()
    advance(study, _search(strategy, gated, CappedSimplex.of(NAMES)), MERGES)
    assert study.best_value < OBJECTIVE(Mixture.uniform(NAMES)).value


class _Pessimist:
    """A surrogate that is sure that nothing will ever win."""

    def fit(self, observations: Observations) -> None:
        self._values = observations.values

    def predict(self, weights: Floats) -> Prediction:
        count = len(weights)
        return Prediction(self._values[:1].repeat(count) + 100, self._values[:1].repeat(count) * 0 + 1e-9)

    def out_of_fold(self) -> Prediction:
        return Prediction(self._values, self._values * 0 + 1.0)


def test_a_gate_that_would_reject_everything_neither_livelocks_nor_starves(strategy: Strategy) -> None:
    rule = GateRule(audit_rate=0.0, min_evidence=3, patience=10)
    gate = Gate(rule, _Pessimist, seed=0)
    search = Search(OBJECTIVE, CappedSimplex.of(NAMES), strategy, 0, gate, START_MIXTURES)
    study = optuna.create_study()
    patience = rule.patience if strategy.patience is None else strategy.patience
    counts = advance(study, search, 30)
    assert counts.merges == 30
    assert counts.forced == 27
    assert counts.pruned == 27 * patience
    parameters = [tuple(trial.params.values()) for trial in study.get_trials(deepcopy=False)]
    assert len(parameters) == 3 + 27 * (patience + 1)
    assert len(set(parameters)) > 0.9 * len(parameters), "it proposed the same point over and over"


class _FailsSometimes(QuadraticLoss):
    """Has no finite loss wherever `b` weighs more than a third."""

    def gradient(self, mixture: Mixture) -> Evaluation:
        return self._checked(mixture, super().gradient(mixture))

    def __call__(self, mixture: Mixture) -> Evaluation:
        return self._checked(mixture, super().__call__(mixture))

    def _checked(self, mixture: Mixture, evaluation: Evaluation) -> Evaluation:
        if mixture.as_dict()["b"] > 1 / 3:
            raise NonFiniteLossError("the loss is not finite")
        return evaluation


def test_a_loss_that_is_not_finite_fails_the_trial_with_its_reason_and_the_study_goes_on(strategy: Strategy) -> None:
    objective = _FailsSometimes(OPTIMUM, [1.0] * 6, floor=1.0)
    study = optuna.create_study()
    start = {"bad": Mixture.vertex(NAMES, "b"), **START_MIXTURES}
    search = Search(objective, CappedSimplex.of(NAMES), strategy, 0, None, start)
    counts = advance(study, search, 15)
    assert counts.merges == 15
    assert counts.failed >= 1
    failed = study.get_trials(states=(optuna.trial.TrialState.FAIL,))
    assert all(trial.user_attrs["mixscout:reason"] == "the loss is not finite" for trial in failed)


def test_gradient_reaches_in_ten_steps_what_a_hundred_random_merges_do_not() -> None:
    space = CappedSimplex.of(NAMES)
    descent, chance = optuna.create_study(), optuna.create_study()
    advance(descent, _search(STRATEGIES["gradient"], False, space), 10)
    advance(chance, _search(STRATEGIES["random"], False, space), 100)
    assert descent.best_value < chance.best_value
    assert descent.best_value - 3.0 < 1e-3


def test_gradient_finds_an_optimum_on_a_face_of_a_capped_space() -> None:
    space = CappedSimplex.of(NAMES, caps={"a": 0.3})
    study = optuna.create_study()
    advance(study, _search(STRATEGIES["gradient"], False, space), 25)
    best = space.mixture_of(study.best_trial)
    assert best.as_dict()["a"] == pytest.approx(0.3, abs=1e-6)
    shifted = [
        OBJECTIVE(space.project(best.array + step)).value for step in ([0, 0.01, 0, 0, 0, 0], [0, 0, 0, 0.01, 0, 0])
    ]
    assert all(value >= study.best_value - 1e-6 for value in shifted)


def test_gradient_needs_an_objective_with_gradients() -> None:
    class OnlyValues:
        partitions = NAMES
        digest = "0" * 64
        gradient = challenge = foundation = None

        def __call__(self, mixture: Mixture) -> Evaluation:
            return OBJECTIVE(mixture)

    with pytest.raises(ValueError, match="'gradient' needs an objective with gradients"):
        Search(OnlyValues(), CappedSimplex.of(NAMES), STRATEGIES["gradient"], 0)


def test_gradients_are_kept_on_the_trials_and_start_mixtures_come_first() -> None:
    study = optuna.create_study()
    advance(study, _search(STRATEGIES["gradient"], True, CappedSimplex.of(NAMES)), 4)
    trials = study.get_trials()
    assert trials[0].user_attrs[START] == "uniform"
    assert all(len(trial.user_attrs[GRADIENT]) == len(NAMES) for trial in trials)


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random"])
def test_optuna_s_samplers_are_shown_no_pruned_trial(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[optuna.trial.TrialState] = []
    made = STRATEGIES[name].make(CappedSimplex.of(NAMES), 0)
    original = type(made).sample_relative

    def watched(self, study: optuna.Study, trial, search_space):
        shown.extend(other.state for other in study._get_trials(deepcopy=False))
        return original(self, study, trial, search_space)

    monkeypatch.setattr(type(made), "sample_relative", watched)
    study = optuna.create_study()
    counts = advance(study, _search(STRATEGIES[name], True, CappedSimplex.of(NAMES)), 25)
    assert counts.pruned > 0
    assert optuna.trial.TrialState.COMPLETE in shown
    assert optuna.trial.TrialState.PRUNED not in shown


def test_a_sampler_whose_cost_grows_with_the_cube_sees_the_best_trials_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []
    made = STRATEGIES["gp"].make(CappedSimplex.of(NAMES), 0)

    def watched(self, study: optuna.Study, trial, search_space):
        done = study._get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        shown[:] = [other.value for other in done]
        return dict.fromkeys(search_space, 0.5)

    monkeypatch.setattr(type(made), "sample_relative", watched)
    study, space = optuna.create_study(), CappedSimplex.of(NAMES)
    values = np.random.default_rng(0).permutation(200).astype(float)
    for value in values:
        point = dict.fromkeys(space.free, 0.5)
        study.add_trial(optuna.create_trial(value=value, params=point, distributions=dict(space.distributions)))
    study.sampler = PerTrialSampler(STRATEGIES["gp"], space, seed=0, patience=1)
    space.suggest(study.ask())
    most = STRATEGIES["gp"].most_shown
    assert most is not None and len(shown) == most < 200
    assert shown == [value for value in values if value < most], "the lowest, in their order"
