"""Stop rules: whichever holds first ends the search, is said, and is the same after a resume."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.loop import Search, advance
from search.space import CappedSimplex
from search.stop import ExpectedImprovement, StopRules, merges_without_improvement
from search.strategies.registry import STRATEGIES
from search.surrogates.surrogate import Floats, Observations, Prediction
from search.trials import START, STOPPED_BY, STOPPED_EARLY

NAMES = ("a", "b", "c")
SPACE = CappedSimplex.of(NAMES)
OPTIMUM = Mixture.of({"a": 0.6, "b": 0.3, "c": 0.1})


class Reading(QuadraticLoss):
    """A quadratic loss that says it has read ten tokens."""

    def __call__(self, mixture: Mixture) -> Evaluation:
        return replace(super().__call__(mixture), tokens_read=10)


def _search(stop: StopRules, strategy: str = "random") -> Search:
    start = {name: Mixture.vertex(NAMES, name) for name in NAMES}
    return Search(Reading(OPTIMUM, [1.0] * 3), SPACE, STRATEGIES[strategy], 0, None, start, stop=stop)


def _study(values: list[float], *, start: int = 0, early: tuple[int, ...] = ()) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study()
    for number, value in enumerate(values):
        trial = study.ask()
        if number < start:
            trial.set_user_attr(START, str(number))
        trial.set_user_attr(STOPPED_EARLY, number in early)
        study.tell(trial, value)
    return study.get_trials()


def test_the_tokens_of_a_study_are_a_total_and_the_reason_is_recorded() -> None:
    study = optuna.create_study()
    assert advance(study, _search(StopRules(tokens=55)), 40).merges == 6
    assert study.user_attrs[STOPPED_BY] == "tokens: 60 of 55 held-out tokens are read"
    assert advance(study, _search(StopRules(tokens=55)), 40).merges == 6
    assert advance(study, _search(StopRules(tokens=85)), 8).merges == 8
    assert study.user_attrs[STOPPED_BY] is None, "it was the budget this time"


def test_patience_ends_a_search_at_the_same_place_in_parts_and_in_one_go() -> None:
    rules = StopRules(patience=5, min_improvement=0.01)
    whole, parts = optuna.create_study(), optuna.create_study()
    counts = advance(whole, _search(rules), 200)
    assert counts.merges < 200
    assert whole.user_attrs[STOPPED_BY] == "patience: 5 merges improved by no more than 0.01"
    for total in (4, 9, 200):
        advance(parts, _search(rules), total)
    assert [trial.params for trial in parts.trials] == [trial.params for trial in whole.trials]


def test_an_improvement_has_to_be_larger_than_the_noise_floor_but_small_ones_add_up() -> None:
    falling = [1.0, 0.996, 0.992, 0.988, 0.984, 0.98]
    assert merges_without_improvement(_study(falling), 0.0) == 0
    assert merges_without_improvement(_study(falling), 0.01) == 2, "0.988 is 0.012 below the first"
    assert merges_without_improvement(_study(falling), 0.1) == 5


def test_the_start_design_does_not_wear_patience_out() -> None:
    assert merges_without_improvement(_study([1.0, 2.0, 3.0, 4.0], start=4), 0.0) == 0
    assert merges_without_improvement(_study([1.0, 2.0, 3.0, 4.0], start=3), 0.0) == 1


def test_an_estimate_from_part_of_the_windows_is_no_improvement() -> None:
    assert merges_without_improvement(_study([1.0, 0.5], early=(1,)), 0.0) == 1


def test_with_several_objectives_a_new_point_of_the_front_is_an_improvement() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    for values in ([1.0, 1.0], [2.0, 0.5], [2.0, 0.6], [3.0, 3.0]):
        study.tell(study.ask(), values)
    assert merges_without_improvement(study.get_trials(), 0.0) == 2


def test_pruned_trials_count_neither_way_and_failed_ones_wear_patience_out() -> None:
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    assert merges_without_improvement(study.get_trials(), 0.0) == 1


def test_the_clock_of_a_command_stops_it() -> None:
    assert StopRules(seconds=2.0).reason([], 1.9) is None
    assert StopRules(seconds=2.0).reason([], 2.0) == "seconds: 2 have passed"
    study = optuna.create_study()
    assert advance(study, _search(StopRules(seconds=1e-9)), 40).merges == 0


@pytest.mark.parametrize("rule", [{"seconds": 0.0}, {"tokens": 0}, {"patience": 0}, {"min_improvement": -0.1}])
def test_a_rule_out_of_range_is_refused(rule: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(rule))} must be"):
        StopRules(**rule)


class Known:
    """A surrogate that knows the loss, as surely as it says."""

    def __init__(self, deviation: float) -> None:
        self._deviation = deviation

    def fit(self, observations: Observations) -> None:
        self._values = observations.values

    def predict(self, weights: Floats) -> Prediction:
        mean = ((weights - OPTIMUM.array) ** 2).sum(axis=1)
        return Prediction(mean, np.full(len(mean), self._deviation))

    def out_of_fold(self) -> Prediction:
        return Prediction(self._values, np.full(len(self._values), 1.0))


def _rule(below: float, deviation: float = 0.0) -> ExpectedImprovement:
    return ExpectedImprovement(below, Known(deviation), SPACE, min_evidence=6, seed=0)


def test_a_search_ends_once_nothing_promises_to_improve() -> None:
    study = optuna.create_study()
    counts = advance(study, _search(StopRules(expected_improvement=_rule(0.02)), "tpe"), 60)
    assert 6 <= counts.merges < 60
    assert study.user_attrs[STOPPED_BY].startswith("expected improvement: 0.")
    assert study.best_value < 0.02 + 1e-3
    assert _rule(0.02).best(study.get_trials()) < 0.02 <= _rule(0.02).best(study.get_trials()[:-1])


def test_what_is_not_known_may_still_improve_and_too_little_evidence_says_nothing() -> None:
    trials = optuna.create_study()
    advance(trials, _search(StopRules()), 8)
    assert _rule(0.02).best(trials.get_trials()[:5]) is None
    assert _rule(0.02, deviation=0.5).best(trials.get_trials()) > 0.1
