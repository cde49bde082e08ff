"""Refinement: trainings are proposed by merges and truths, exactly as many as asked for, and none that is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.loop import Search, advance
from search.space import CappedSimplex
from search.stop import StopRules
from search.strategies.refine import CLOSE, Beliefs, Merges, Settled, beliefs_of, propose, refining
from search.strategies.registry import STRATEGIES
from search.strategies.surrogate import evidence_of
from search.trials import IMPORTED, STOPPED_BY, completed_trials
from studies.running.evidence import imported_trial

NAMES = tuple("abcd")
PROXY = QuadraticLoss(Mixture.from_array(NAMES, [0.5, 0.3, 0.2, 0.0]), [1.0, 2.0, 1.0, 1.0], floor=3.0)
TRUTH = QuadraticLoss(Mixture.from_array(NAMES, [0.4, 0.3, 0.3, 0.0]), [1.0, 2.0, 1.0, 1.0], floor=3.1)
PLAIN = CappedSimplex.of(NAMES)
NO_MEMBERS = (np.empty((0, 4)), np.empty(0))
SEED = 3


@cache
def _merges(space: CappedSimplex = PLAIN, noise: float | None = 0.002, *, members: bool = False) -> Merges:
    study = optuna.create_study()
    advance(study, Search(PROXY, space, STRATEGIES["auto"], 0, None, {"uniform": Mixture.uniform(NAMES)}), 12)
    observations = evidence_of(completed_trials(study), space)
    assert observations is not None
    vertices = (np.eye(4), np.array([TRUTH(Mixture.vertex(NAMES, one)).value for one in NAMES]))
    return Merges(observations, lambda one: PROXY(one).value, space, vertices if members else NO_MEMBERS, noise)


def _refined(
    merges: Merges, truths: int, study: optuna.Study | None = None, stop: StopRules | None = None
) -> optuna.Study:
    study = study or optuna.create_study()
    start = {"best": merges.space.project(PROXY.optimum.array)}
    search = Search(TRUTH, merges.space, refining(merges), SEED, None, start, stop=stop or StopRules())
    advance(study, search, truths)
    return study


def _mixtures(study: optuna.Study, space: CappedSimplex = PLAIN) -> list[Mixture]:
    return [space.mixture_of(trial) for trial in completed_trials(study)]


@pytest.mark.parametrize("space", [PLAIN, CappedSimplex.of(NAMES, caps={"a": 0.45}, floors={"d": 0.05})])
def test_no_two_trainings_are_of_one_mixture_and_all_are_allowed(space: CappedSimplex) -> None:
    found = _mixtures(_refined(_merges(space), 4), space)
    assert len(found) == 4 and all(space.contains(mixture) for mixture in found)
    weights = np.stack([mixture.array for mixture in found])
    apart = np.abs(weights[:, None] - weights).sum(axis=-1) / 2 + np.eye(4)
    assert apart.min() > CLOSE


def test_truths_improve_on_the_best_of_the_merges() -> None:
    merges = _merges()
    beliefs = beliefs_of(completed_trials(_refined(merges, 5)), merges)
    assert beliefs is not None
    first, best = (TRUTH(Mixture.from_array(NAMES, row)).value for row in (PROXY.optimum.array, beliefs.best))
    assert best - TRUTH.best_value < 0.5 * (first - TRUTH.best_value)


def test_a_refinement_goes_on_where_it_was_and_repeats_itself() -> None:
    merges = _merges()
    whole, halves = _refined(merges, 3), _refined(merges, 1)
    _refined(merges, 3, halves)
    assert _mixtures(whole) == _mixtures(halves)


def test_truths_known_before_teach_are_not_proposed_and_cost_nothing() -> None:
    merges, study = _merges(), optuna.create_study()
    known = [Mixture.from_array(NAMES, row) for row in ([0.4, 0.3, 0.3, 0.0], [0.25, 0.25, 0.25, 0.25])]
    for mixture in known:
        study.add_trial(imported_trial(TRUTH(mixture), {IMPORTED: "elsewhere"}, study, PLAIN))
    found = _mixtures(_refined(merges, 2, study))
    assert len(found) == 4 and found[:2] == known
    assert all(np.abs(one.array - other.array).sum() / 2 > CLOSE for one in found[2:] for other in known)


def test_workers_are_not_sent_to_one_mixture() -> None:
    merges, study = _merges(), _refined(_merges(), 1)
    asked = []
    for _ in range(2):
        trial = study.ask()
        point = propose(study.get_trials()[:-1], PLAIN, SEED, merges=merges)
        for name, value in PLAIN.parameters_of(point).items():
            trial.suggest_float(name, value, value)
        asked.append(point)
    gaps = [np.abs(one - other).sum() / 2 for at, one in enumerate(asked) for other in asked[:at]]
    assert min(gaps) > CLOSE


def test_before_the_first_truth_there_is_nothing_to_believe() -> None:
    assert beliefs_of([], _merges()) is None and propose([], PLAIN, SEED, merges=_merges()) is None


def test_a_member_is_a_contender_with_its_known_truth() -> None:
    merges = _merges(members=True)
    vertex, truth = np.eye(4)[0], 2.0
    merges = Merges(merges.observations, merges.merge, PLAIN, (vertex[None], np.array([truth])), 0.002)
    trained = np.array([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25]])
    beliefs = Beliefs.of(merges, trained, np.array([3.1, 3.3]))
    assert (beliefs.best == vertex).all()
    drawn = beliefs.draws(np.vstack([vertex, trained[0]]), np.random.default_rng(0))
    assert (drawn[:, 0] == truth).all() and drawn[:, 1].std() > 0


class Judged(Settled):
    """Counts how often the chance is really computed."""

    computed = 0

    def _judged(self, trials: Sequence[optuna.trial.FrozenTrial]) -> str | None:
        self.computed += 1
        return super()._judged(trials)


def test_a_certain_answer_ends_the_trainings_and_says_why() -> None:
    merges = _merges()
    study = _refined(merges, 9, stop=StopRules(settled=Judged(merges, 10.0, 0.05, SEED)))
    assert len(study.trials) == 2, "certainty takes two truths"
    reason = study.user_attrs[STOPPED_BY]
    assert reason == "certainty: another mixture is better by more than 10 with probability 0.0%"
    rule = Judged(merges, 1e-9, 1e-9, SEED)
    assert rule(study.trials) is None and rule(study.trials) is None and rule.computed == 1


def test_the_chance_of_better_falls_with_the_margin_and_does_not_depend_on_the_hour() -> None:
    merges = _merges()
    beliefs = beliefs_of(completed_trials(_refined(merges, 2)), merges)
    assert beliefs is not None
    chances = [beliefs.chance_of_better(margin, SEED) for margin in (0.0, 0.1, 10.0)]
    assert chances == sorted(chances, reverse=True) and chances[-1] == 0
    assert chances[0] == beliefs.chance_of_better(0.0, SEED)


def test_the_noise_of_a_training_is_the_margin_and_a_supposed_noise_goes_by_the_spread() -> None:
    assert _merges(noise=0.004).margin == pytest.approx(0.004)
    supposed = _merges(noise=None)
    assert supposed.margin == pytest.approx(0.03 * supposed.yardstick.unit[0])


def test_a_training_that_failed_spends_its_place() -> None:
    class Failing(QuadraticLoss):
        def __call__(self, mixture: Mixture) -> Evaluation:
            raise MemoryError("no room")

    merges, study = _merges(), _refined(_merges(), 1)
    failing = Failing(TRUTH.optimum, [1.0] * 4)
    advance(study, Search(failing, PLAIN, refining(merges), SEED, None, {}), 2)
    _refined(merges, 3, study)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
