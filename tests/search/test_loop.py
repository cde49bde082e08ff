"""A study that maximises: every strategy, the gate and the stop rules do as for the negated values minimised."""

from collections.abc import Sequence

import optuna
import pytest

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.gate import Gate, GateRule
from search.loop import Search, advance
from search.space import CappedSimplex
from search.stop import StopRules
from search.strategies.registry import STRATEGIES
from search.surrogates.scheffe import ScheffeSurrogate
from search.trials import PREDICTED_MEANS, PROCESSOR_SECONDS, best_trial, completed_trials, count_trials

NAMES = ("code", "docs", "prose")
FIRST, SECOND = (
    Mixture.of({"code": 0.5, "docs": 0.0, "prose": 0.5}),
    Mixture.of({"code": 0.0, "docs": 0.8, "prose": 0.2}),
)


class Two(QuadraticLoss):
    """Two values: how far from `FIRST`, and from `SECOND`."""

    def __call__(self, mixture: Mixture) -> Evaluation:
        found, other = super().__call__(mixture), QuadraticLoss(SECOND, [1.0, 1.0, 1.0])(mixture)
        return Evaluation(**{**vars(found), "values": (found.value, other.value)})


def _run(strategy: str, directions: Sequence[str], merges: int = 13) -> optuna.Study:
    kind = Two if len(directions) > 1 else QuadraticLoss
    study = optuna.create_study(directions=list(directions))
    rule = GateRule(min_evidence=6, threshold=0.3, audit_rate=0.2, patience=3)
    search = Search(
        kind(FIRST, [1.0, 2.0, 3.0], floor=1.0),
        CappedSimplex.of(NAMES),
        STRATEGIES[strategy],
        0,
        Gate(rule, ScheffeSurrogate, seed=0),
        {"uniform": Mixture.uniform(NAMES)},
        several=len(directions) > 1,
        stop=StopRules(patience=9),
    )
    advance(study, search, merges)
    return study


def _course(study: optuna.Study) -> list[tuple[object, ...]]:
    return [(trial.state, trial.params, trial.user_attrs.get("mixscout:verdict")) for trial in study.trials]


@pytest.mark.parametrize("strategy", ["auto", "cmaes", "gp", "gradient", "greedy", "surrogate", "tpe"])
def test_a_maximised_value_is_searched_like_its_negative_minimised(strategy: str) -> None:
    down, up = _run(strategy, ["minimize"]), _run(strategy, ["maximize"])
    assert _course(up) == _course(down)
    assert [-trial.value for trial in up.trials if trial.value] == [trial.value for trial in down.trials if trial.value]
    assert up.best_trial.number == down.best_trial.number == best_trial(completed_trials(up)).number
    assert [trial.values for trial in completed_trials(up)] == [trial.values for trial in completed_trials(down)]
    assert count_trials(up) == count_trials(down)


@pytest.mark.parametrize("strategy", ["surrogate", "tpe"])  # NSGA-II breaks ties by the values' order
def test_objectives_of_both_directions_have_the_front_of_both_minimised(strategy: str) -> None:
    down, up = _run(strategy, ["minimize", "minimize"]), _run(strategy, ["minimize", "maximize"])
    assert _course(up) == _course(down)
    assert [one.number for one in up.best_trials] == [one.number for one in down.best_trials]
    assert [(one, -other) for one, other in (trial.values for trial in up.best_trials)] == [
        tuple(trial.values) for trial in down.best_trials
    ]


def test_predictions_have_the_sign_of_the_values_in_the_database() -> None:
    study = _run("random", ["maximize"], merges=12)
    told = [trial for trial in study.trials if PREDICTED_MEANS in trial.user_attrs]
    assert told and all(trial.user_attrs[PREDICTED_MEANS][0] < 0 for trial in told)
    inside = [trial for trial in completed_trials(study) if PREDICTED_MEANS in trial.user_attrs]
    assert all(trial.user_attrs[PREDICTED_MEANS][0] > 0 and trial.value > 0 for trial in inside)


def test_every_trial_has_its_processor_time_pruned_ones_too() -> None:
    trials = _run("tpe", ["minimize"]).trials
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    assert all(trial.user_attrs[PROCESSOR_SECONDS] > 0 for trial in trials)
