"""What single strategies promise beyond the suite: sequences, soups, generations, several objectives, a user's own."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.stats import qmc

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.errors import ConfigError
from pool.mixture import Mixture
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies import baselines, libraries
from search.strategies.registry import STRATEGIES, find_strategy
from search.strategies.strategy import Strategy
from search.trials import START

NAMES = tuple("abcde")
OBJECTIVE = QuadraticLoss(Mixture.from_array(NAMES, [0.5, 0.3, 0.2, 0, 0]), [1.0, 2.0, 0.5, 1.0, 0.7], floor=3.0)
SPACE = CappedSimplex.of(NAMES)
UNIFORM = {"uniform": Mixture.uniform(NAMES)}


def _run(name: str, merges: int, *, space: CappedSimplex = SPACE, objective=OBJECTIVE, seed: int = 0) -> optuna.Study:
    study = optuna.create_study()
    advance(study, Search(objective, space, STRATEGIES[name], seed, None, UNIFORM), merges)
    return study


def _points(study: optuna.Study) -> list[tuple[float, ...]]:
    return [tuple(t.params.values()) for t in study.get_trials(deepcopy=False) if START not in t.user_attrs]


class TwoTargets:
    """Two quadratic losses side by side."""

    partitions = NAMES
    digest = "two"
    gradient = challenge = foundation = None

    def __init__(self) -> None:
        self._parts = [QuadraticLoss(Mixture.vertex(NAMES, name), [1.0] * 5) for name in "ab"]

    def __call__(self, mixture: Mixture) -> Evaluation:
        values = tuple(part(mixture).value for part in self._parts)
        return Evaluation(mixture, float(np.mean(values)), 0.0, {}, "analytic", self.digest, 0.0, 0, values)


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES.values() if s.several], ids=lambda s: s.name)
def test_a_strategy_for_several_objectives_finds_a_front(strategy: Strategy) -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    counts = advance(study, Search(TwoTargets(), SPACE, strategy, 0, None, UNIFORM), 24)
    assert counts.merges == 24
    assert len(study.best_trials) >= 3


def test_which_strategies_can_search_for_several_objectives() -> None:
    able = {strategy.name for strategy in STRATEGIES.values() if strategy.several}
    assert able >= {"tpe", "gp", "random", "qmc", "nsga2", "nsga3"}
    assert not able & {"gradient", "cmaes", "greedy", "exhaustive"}


def test_qmc_is_one_scrambled_sobol_sequence() -> None:
    points = np.array(_points(_run("qmc", 17)))
    assert qmc.discrepancy(points) < 0.5 * qmc.discrepancy(np.array(_points(_run("random", 17))))
    assert (np.histogram(points[:, 0], bins=16, range=(0, 1))[0] == 1).all(), "one point in every sixteenth"


def test_cmaes_stores_nothing_and_converges() -> None:
    study = _run("cmaes", 90)
    assert not any(trial.system_attrs for trial in study.get_trials(deepcopy=False)[1:])
    assert study.best_value - 3.0 < 0.1 * (OBJECTIVE(Mixture.uniform(NAMES)).value - 3.0)


def test_cmaes_starts_at_the_best_of_the_start_design() -> None:
    study = optuna.create_study()
    start = {**UNIFORM, "good": OBJECTIVE.optimum}
    advance(study, Search(OBJECTIVE, SPACE, STRATEGIES["cmaes"], 0, None, start), 2)
    mean = libraries.replay(study.get_trials(deepcopy=False), SPACE).mean
    assert SPACE.project(mean).array == pytest.approx(OBJECTIVE.optimum.array)
    assert mean.min() == pytest.approx(1 - mean.max()), "in the middle of the cube"


class _Flat(QuadraticLoss):
    """Is worth the same everywhere."""

    def __call__(self, mixture: Mixture) -> Evaluation:
        return Evaluation(mixture, 1.0, 0.0, {}, "analytic", self.digest, 0.0, 0)


def test_cmaes_starts_again_with_more_points_once_it_has_converged() -> None:
    space = CappedSimplex.of(NAMES, caps={"c": 0, "d": 0, "e": 0})
    study = _run("cmaes", 135, space=space, objective=_Flat(OBJECTIVE.optimum, [1.0] * 5))
    assert libraries.replay(study.get_trials(deepcopy=False), space).population_size > 6


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_space_of_one_or_no_parameter_is_searched_all_the_same(name: str) -> None:
    for fixed in (dict.fromkeys("bcde", 0.2), dict.fromkeys(NAMES, 0.2)):
        space = CappedSimplex.of(NAMES, caps=fixed, floors=fixed)
        study = _run(name, 4, space=space)
        assert all(space.mixture_of(trial).array == pytest.approx(np.full(5, 0.2)) for trial in study.trials)


def _soup(losses: dict[frozenset[str], float], names: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """Cook a soup whose losses are given (1 where not), and list what it asked for."""
    cook = baselines.soup(names, most)
    asked = [next(cook)]
    while True:
        try:
            asked.append(cook.send(losses.get(frozenset(asked[-1]), 1.0)))
        except StopIteration:
            return asked


def test_a_soup_takes_members_in_the_order_of_their_losses_and_then_takes_away() -> None:
    losses = {"a": 0.9, "b": 0.5, "c": 0.7, "bc": 0.4, "abc": 0.3, "ac": 0.2}
    asked = _soup({frozenset(key): value for key, value in losses.items()}, "abc", 3)
    assert asked[:3] == [("a",), ("b",), ("c",)]
    assert asked[3:6] == [("b", "c"), ("b", "c", "a"), ("c", "a")], "best first; then without b"
    assert asked[-1] != ("c", "a"), "it goes on until neither adding nor taking away helps"


def test_a_soup_keeps_the_limit_on_members() -> None:
    losses = {frozenset(key): 1.0 / len(key) for key in ("a", "b", "c", "ab", "ac", "bc", "abc")}
    assert max(map(len, _soup(losses, "abc", 2))) == 2


def test_greedy_asks_for_missing_members_first_and_never_twice() -> None:
    study = _run("greedy", 16)
    points = _points(study)
    assert points[:5] == [tuple(np.eye(5)[k]) for k in range(5)]
    assert len(set(points)) == len(points)


def test_greedy_uses_vertices_of_the_start_design() -> None:
    study = optuna.create_study()
    start = {name: Mixture.vertex(NAMES, name) for name in NAMES}
    advance(study, Search(OBJECTIVE, SPACE, STRATEGIES["greedy"], 0, None, start), 6)
    assert sum(weight > 0 for weight in _points(study)[0]) == 2


def test_exhaustive_visits_every_coarse_mixture_once_and_then_goes_on_at_random() -> None:
    space = CappedSimplex.of(NAMES[:3], max_members=2)
    objective = QuadraticLoss(Mixture.uniform(NAMES[:3]), [1.0] * 3)
    study = optuna.create_study()
    advance(study, Search(objective, space, STRATEGIES["exhaustive"], 0), 14)
    visited = [tuple(round(w, 9) for w in space.mixture_of(trial).weights) for trial in study.trials]
    listed = list(baselines.candidates(space))
    coarse = {tuple(round(members.count(name) / len(members), 9) for name in NAMES[:3]) for members in listed}
    assert len(coarse) == 3 + 3 + 6
    assert set(visited[:12]) == coarse
    assert [sum(w > 0 for w in weights) for weights in visited[:6]] == [1, 1, 1, 2, 2, 2]
    assert not set(visited[12:]) & coarse


def test_pruned_proposals_are_not_made_again() -> None:
    for name in ("exhaustive", "greedy", "qmc"):
        study = optuna.create_study()
        search = Search(OBJECTIVE, SPACE, STRATEGIES[name], 0)
        advance(study, search, 3)
        before = study.ask()
        point = SPACE.suggest(before)
        study.tell(before, state=TrialState.PRUNED)
        advance(study, search, 8)
        assert [SPACE.mixture_of(trial).digest for trial in study.trials].count(point.digest) == 1


def make(space: CappedSimplex, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)


def make_nothing(space: CappedSimplex, seed: int) -> None:
    return None


NOT_CALLABLE = 3


def test_a_sampler_of_ones_own_by_dotted_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "their_package", __import__("sys").modules[__name__])
    strategy = find_strategy("their_package:make")
    study = optuna.create_study()
    assert advance(study, Search(OBJECTIVE, SPACE, strategy, 0, None, UNIFORM), 8).merges == 8
    assert strategy.name == "their_package:make"
    with pytest.raises(ValueError, match="module 'their_package' has no 'gone'"):
        find_strategy("their_package:gone")
    with pytest.raises(ValueError, match=r"must be a function make\(space, seed\): got int"):
        find_strategy("their_package:NOT_CALLABLE")
    with pytest.raises(ConfigError, match="must return an optuna.samplers.BaseSampler: got NoneType"):
        find_strategy("their_package:make_nothing").make(SPACE, 0)


def test_a_strategy_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="cannot be imported: No module named 'nowhere'; install its package"):
        find_strategy("nowhere:make")
    with pytest.raises(ValueError, match="unknown strategy 'simplex'; use auto, gradient"):
        find_strategy("simplex")
