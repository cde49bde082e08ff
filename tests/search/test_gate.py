"""The gate: prunes what cannot win, audits a share of it, and measures how often it is wrong."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import optuna
import pytest
from scipy.stats import norm

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.gate import Evidence, Gate, GateRule, adapted_threshold, chance_of_winning, interval_width
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import Floats, Observations, Prediction
from search.trials import (
    GRADIENT,
    PREDICTED_DEVIATIONS,
    PREDICTED_MEANS,
    VERDICT,
    Counts,
    Verdict,
    completed_trials,
    interval_errors,
)

NAMES = ("a", "b", "c")
OBJECTIVE = QuadraticLoss(Mixture.of({"a": 0.6, "b": 0.3, "c": 0.1}), [1.0, 1.0, 1.0])


def _evidence(count: int) -> Evidence:
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=count)
    return Evidence(weights, OBJECTIVE.exact(weights)[:, None], [None] * count)


def _gate(**rule: float) -> Gate:
    return Gate(GateRule(**rule), ScheffeSurrogate, seed=0)


def test_nothing_is_pruned_before_there_is_enough_evidence() -> None:
    decision = _gate(min_evidence=20).judge(
        Mixture.vertex(NAMES, "c"), _evidence(19), trial_number=19, pruned_in_a_row=0
    )
    assert decision.verdict is Verdict.EVALUATE and decision.chance is None


def test_what_cannot_win_is_pruned_and_what_can_is_evaluated() -> None:
    gate = _gate(audit_rate=0.0)
    bad = gate.judge(Mixture.vertex(NAMES, "c"), _evidence(25), trial_number=25, pruned_in_a_row=0)
    good = gate.judge(OBJECTIVE.optimum, _evidence(25), trial_number=26, pruned_in_a_row=0)
    assert bad.verdict is Verdict.PRUNE
    assert good.verdict is Verdict.EVALUATE
    assert bad.chance is not None and good.chance is not None
    assert bad.chance < bad.threshold == gate.rule.threshold < good.chance


def test_audits_come_at_their_rate_and_depend_on_the_trial_number_alone() -> None:
    gate = _gate(audit_rate=0.25)
    worst = Mixture.vertex(NAMES, "c")
    evidence = _evidence(25)
    verdicts = [gate.judge(worst, evidence, trial_number=n, pruned_in_a_row=0).verdict for n in range(400)]
    assert set(verdicts) == {Verdict.PRUNE, Verdict.AUDIT}
    assert 0.18 < np.mean([verdict is Verdict.AUDIT for verdict in verdicts]) < 0.32
    again = [gate.judge(worst, evidence, trial_number=n, pruned_in_a_row=0).verdict for n in range(400)]
    assert verdicts == again


def test_audits_take_no_more_than_a_tenth_of_the_merges() -> None:
    evidence, bad = _evidence(40), Mixture.vertex(NAMES, "c")
    audited = replace(evidence, audits=[False] * 4)
    gate = _gate(audit_rate=1.0)
    assert gate.judge(bad, evidence, trial_number=1, pruned_in_a_row=0).verdict is Verdict.AUDIT
    assert gate.judge(bad, audited, trial_number=1, pruned_in_a_row=0).verdict is Verdict.PRUNE


def test_patience_lets_one_through() -> None:
    gate = _gate(audit_rate=0.0, patience=5)
    worst, evidence = Mixture.vertex(NAMES, "c"), _evidence(25)
    assert gate.judge(worst, evidence, trial_number=9, pruned_in_a_row=4).verdict is Verdict.PRUNE
    assert gate.judge(worst, evidence, trial_number=9, pruned_in_a_row=5).verdict is Verdict.FORCED


@pytest.mark.parametrize(
    "rule",
    [{"threshold": 1.5}, {"audit_rate": -0.1}, {"min_evidence": 2}, {"patience": 0}, {"max_false_prune_rate": 0.0}],
)
def test_a_rule_out_of_range_is_refused(rule: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        GateRule(**rule)


class _Counting(QuadraticLoss):
    """Counts how often it is really evaluated."""

    calls = 0

    def __call__(self, mixture: Mixture) -> Evaluation:
        self.calls += 1
        return super().__call__(mixture)


def test_a_pruned_trial_costs_no_merge_and_every_count_adds_up() -> None:
    objective = _Counting(OBJECTIVE.optimum, [1.0, 1.0, 1.0])
    study = optuna.create_study()
    search = Search(
        objective, CappedSimplex.of(NAMES), STRATEGIES["random"], 3, _gate(), {"uniform": Mixture.uniform(NAMES)}
    )
    counts = advance(study, search, 40)
    assert objective.calls == counts.merges == 40
    assert counts.pruned > 0 and counts.audited > 0
    assert counts.merges + counts.pruned == len(study.get_trials())


def test_the_gate_makes_random_search_better_at_equal_merges() -> None:
    def best(gate: Gate | None, seed: int) -> float:
        study = optuna.create_study()
        names = tuple("abcdefgh")
        objective = QuadraticLoss(Mixture.from_array(names, [0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0]), [1.0] * 8)
        advance(study, Search(objective, CappedSimplex.of(names), STRATEGIES["random"], seed, gate), 40)
        return study.best_value

    gated = [best(Gate(GateRule(), ScheffeSurrogate, seed=seed), seed) for seed in range(4)]
    assert np.median(gated) < np.median([best(None, seed) for seed in range(4)])


def _counts(audited: int, false_prunes: int) -> Counts:
    return Counts(30, 9, audited, 0, 0, 0, 0, 0, false_prunes)


def test_the_false_prune_rate_is_said_with_its_interval_or_not_at_all() -> None:
    assert _counts(0, 0).false_prune_rate() == "not measured (no audit)"
    assert _counts(20, 1).false_prune_rate() == "1/20 = 5% (95 % interval 1% to 24%)"


def test_audits_that_win_lower_the_threshold_and_clean_ones_raise_it_again() -> None:
    assert adapted_threshold(0.05, [], most=0.1) == 0.05
    assert adapted_threshold(0.05, [False] * 100, most=0.1) == 0.05
    assert adapted_threshold(0.05, [True], most=0.1) == 0.025
    assert adapted_threshold(0.05, [True, True], most=0.1) == 0.0125
    assert adapted_threshold(0.05, [True, True] + [False] * 9, most=0.1) == 0.025
    assert adapted_threshold(0.05, [True, True] + [False] * 200, most=0.1) == 0.05


def test_one_winning_audit_among_several_clean_ones_is_within_the_bound() -> None:
    assert adapted_threshold(0.05, [False] * 7 + [True], most=0.2) == 0.05


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_the_threshold_settles_where_the_rate_of_false_prunes_puts_it(rate: float) -> None:
    draws = np.random.default_rng(0).random(400) < rate
    thresholds = [adapted_threshold(0.05, draws[:count].tolist(), most=0.1) for count in range(200, 400)]
    assert np.mean([threshold == 0.05 for threshold in thresholds]) == pytest.approx(float(rate < 0.1), abs=0.25)


class _Overconfident:
    """Gives every proposal a chance of 0.02 of winning; says out of fold what makes that look calibrated."""

    def fit(self, observations: Observations) -> None:
        self._values = observations.values

    def predict(self, weights: Floats) -> Prediction:
        count = len(weights)
        return Prediction(np.full(count, self._values.min() + 2.054), np.ones(count))

    def out_of_fold(self) -> Prediction:
        return Prediction(self._values - 1.645, np.ones(len(self._values)))


class _Falling(QuadraticLoss):
    """Is lower every time it is asked, so whatever is pruned would have won."""

    calls = 0

    def __call__(self, mixture: Mixture) -> Evaluation:
        self.calls += 1
        return replace(super().__call__(mixture), value=-float(self.calls))


def _advance_wrongly(study: optuna.Study, totals: Sequence[int]) -> Gate:
    """Advance with a gate that is wrong every time, made anew for every part."""
    objective = _Falling(OBJECTIVE.optimum, [1.0, 1.0, 1.0])
    for total in totals:
        gate = Gate(GateRule(audit_rate=0.3, min_evidence=3), _Overconfident, seed=0)
        advance(study, Search(objective, CappedSimplex.of(NAMES), STRATEGIES["random"], 0, gate), total)
    return gate


def test_a_gate_that_is_wrong_stops_pruning_and_a_resumed_study_judges_as_an_uninterrupted_one() -> None:
    whole, parts = optuna.create_study(), optuna.create_study()
    gate = _advance_wrongly(whole, [20])
    _advance_wrongly(parts, [4, 5, 9, 20])
    verdicts, resumed = ([trial.user_attrs[VERDICT] for trial in study.get_trials()] for study in (whole, parts))
    assert verdicts == resumed
    assert Verdict.PRUNE in verdicts and verdicts[-10:] == [Verdict.EVALUATE] * 10
    evidence = Evidence.of(completed_trials(whole), CappedSimplex.of(NAMES))
    assert evidence.audits and all(evidence.audits)
    assert gate.threshold(evidence) == gate.rule.threshold / 2 ** len(evidence.audits)
    assert all(error > 1 for (error,) in evidence.errors[: len(evidence.audits)])


@pytest.mark.parametrize("error", [1e-6, 0.2, 1.0, 3.0])
@pytest.mark.parametrize("later", [0.1, 1.0, 10.0])
def test_intervals_hold_their_share_whatever_the_surrogate_s_own_deviations_are_worth(
    error: float, later: float
) -> None:
    """`error` is the true standard deviation where the surrogate says 1; half-way it changes by the factor `later`."""
    drawn = np.random.default_rng(3).normal(0, error, size=200) * np.repeat([1.0, later], 100)
    errors: list[float] = []
    for one in drawn:
        errors.append(abs(one) / (norm.ppf(0.95) * interval_width(errors)))
    assert abs(np.mean(np.array(errors) <= 1) - 0.9) <= 0.05


def test_a_missed_interval_widens_the_next_and_a_hit_narrows_it() -> None:
    assert interval_width([0.5]) < interval_width([]) == 1.0 < interval_width([1.5])
    assert interval_width([0.0] * 1_000) > 0 and np.isfinite(interval_width([np.inf] * 1_000))


def test_an_interval_of_no_width_holds_its_mean_and_nothing_else() -> None:
    predicted = [
        optuna.trial.create_trial(value=value, user_attrs={PREDICTED_MEANS: [2.0], PREDICTED_DEVIATIONS: [deviation]})
        for value, deviation in ((2.0, 0.0), (2.001, 0.0), (2.0 + norm.ppf(0.95), 1.0))
    ]
    assert interval_errors(predicted) == [(0.0,), (np.inf,), pytest.approx((1.0,))]


def test_evidence_carries_gradients_and_what_became_of_audits() -> None:
    study = optuna.create_study()
    search = Search(OBJECTIVE, CappedSimplex.of(NAMES), STRATEGIES["gradient"], 0)
    advance(study, search, 4)
    trials = completed_trials(study)
    observations = Evidence.of(trials, search.space).observations(0)
    assert observations.differentiated.all()
    assert observations.gradients[2].tolist() == trials[2].user_attrs[GRADIENT]
    assert Evidence.of(trials, search.space).audits == []
    for trial, value in zip(trials[1:3], (99.0, -1.0), strict=True):
        trial.user_attrs[VERDICT] = Verdict.AUDIT.value
        trial.values = [value]
    assert Evidence.of(trials, search.space).audits == [False, True]


def test_gradients_sharpen_the_gate_s_own_surrogate() -> None:
    study = optuna.create_study()
    search = Search(OBJECTIVE, CappedSimplex.of(NAMES), STRATEGIES["gradient"], 0)
    advance(study, search, 12)
    evidence = Evidence.of(completed_trials(study), search.space)
    decision = Gate(GateRule(), seed=0).judge(Mixture.vertex(NAMES, "c"), evidence, trial_number=12, pruned_in_a_row=0)
    assert decision.means == pytest.approx([OBJECTIVE(Mixture.vertex(NAMES, "c")).value], abs=0.05)
    assert decision.verdict is not Verdict.EVALUATE


def test_the_front_is_what_nothing_beats_in_every_objective() -> None:
    values = np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [4.0, 1.0], [2.0, 2.0], [1.0, 5.0]])
    front = Evidence(np.ones((6, 1)), values, [None] * 6).front
    assert front.tolist() == [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0]]
    assert Evidence(np.ones((6, 1)), values[:, :1], [None] * 6).front.tolist() == [[1.0]]


def test_the_chance_of_adding_to_a_front_is_what_integration_says() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    prediction = Prediction(np.array([0.6, 0.4]), np.array([0.5, 0.3]))
    below = [
        [norm.cdf((edge - mean) / deviation) for edge in (0.0, 1.0)] for mean, deviation in ((0.6, 0.5), (0.4, 0.3))
    ]
    # Beside each point of the front: left of both, or right of the first and below the second, or below both.
    left, middle = below[0][0], below[0][1] - below[0][0]
    exact = left + middle * below[1][1] + (1 - below[0][1]) * below[1][0]
    assert chance_of_winning(prediction, front, seed=3) == pytest.approx(exact, abs=0.03)
    surely_behind = Prediction(np.array([2.0, 2.0]), np.array([1e-3, 1e-3]))
    assert chance_of_winning(surely_behind, front, seed=3) == 0


class _Opposed(QuadraticLoss):
    """Two objectives with their optima at two vertices."""

    def __call__(self, mixture: Mixture) -> Evaluation:
        a, b = (float(((mixture.over(NAMES).array - corner) ** 2).sum()) for corner in np.eye(3)[:2])
        return replace(super().__call__(mixture), value=(a + b) / 2, values=(a, b))


def test_with_several_objectives_it_prunes_what_adds_nothing_to_the_front() -> None:
    space = CappedSimplex.of(NAMES)
    fronts = {}
    for gate in (None, Gate(GateRule(audit_rate=0.05), seed=0)):
        study = optuna.create_study(directions=["minimize", "minimize"])
        search = Search(_Opposed(OBJECTIVE.optimum, [1.0] * 3), space, STRATEGIES["random"], 0, gate, several=True)
        counts = advance(study, search, 40)
        assert counts.merges == 40 and (counts.pruned > 0) == (gate is not None)
        fronts[gate is not None] = [space.mixture_of(trial).array[2] for trial in study.best_trials]
    assert len(fronts[True]) > len(fronts[False])
    assert np.mean(fronts[True]) < 0.15, "the front is the edge between the two vertices"
