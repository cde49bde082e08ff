"""A history read piece by piece says what one read at once says."""

import numpy as np
import optuna
import pytest

from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.gate import Evidence, Gate, GateRule
from search.history import History
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.surrogates.scheffe import ScheffeSurrogate
from search.trials import Counts, completed_trials, count_trials

NAMES = ("a", "b", "c")
SPACE = CappedSimplex.of(NAMES)


@pytest.fixture(scope="module")
def searched() -> optuna.Study:
    """A study with pruned trials, audits and a failure."""
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    gate = Gate(GateRule(audit_rate=0.5), ScheffeSurrogate, seed=0)
    objective = QuadraticLoss(Mixture.of({"a": 0.6, "b": 0.3, "c": 0.1}), [1.0, 1.0, 1.0])
    advance(study, Search(objective, SPACE, STRATEGIES["random"], 0, gate), 40)
    return study


@pytest.mark.parametrize("seed", range(4))
def test_trials_that_end_in_another_order_are_counted_alike(searched: optuna.Study, seed: int) -> None:
    """Several workers end theirs in any order: those still running are ended at later looks."""
    trials = searched.get_trials()
    other = optuna.create_study()
    ended = np.random.default_rng(seed).permutation(len(trials))
    history, storage = History(other, SPACE), other._storage
    ids = [storage.create_new_trial(other._study_id) for _ in trials]
    for done, at in enumerate(ended):
        trial = trials[at]
        for name, value in trial.params.items():
            inner = trial.distributions[name].to_internal_repr(value)
            storage.set_trial_param(ids[at], name, inner, trial.distributions[name])
        for name, attribute in trial.user_attrs.items():
            storage.set_trial_user_attr(ids[at], name, attribute)
        storage.set_trial_state_values(ids[at], trial.state, trial.values)
        if done % 7 == 0:
            history.look()
            assert history.counts == count_trials(other)
    history.look()
    assert history.counts == count_trials(other) == count_trials(searched)
    assert isinstance(history.counts, Counts) and history.counts.audited > 2 < history.counts.pruned
    whole = Evidence.of(completed_trials(searched), SPACE)
    assert np.array_equal(history.evidence.weights, whole.weights)
    assert np.array_equal(history.evidence.values, whole.values)
    assert list(history.evidence.audits) == list(whole.audits)
    assert history.lowest == searched.best_value
