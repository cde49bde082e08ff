"""`mixscout bench truths`: ways to spend trainings, on formulas and on a study's truths."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pool.mixture import Mixture
from search.space import CappedSimplex
from search.strategies.refine import Merges
from search.surrogates.surrogate import Observations
from studies.benchmarks.strategies.training_problems import Replay, TruthCase
from studies.benchmarks.strategies.truths import METHODS, PROCESS, REFINE, TruthResult, run_truths, thirds_of

CASE = TruthCase("moved", 4, 0.007)
NAMES = tuple("abcd")


def _replay() -> Replay:
    """Sixteen truths that a proxy ranks nearly right."""
    rows = np.random.default_rng(3).dirichlet(np.ones(4), size=16)
    truths = (rows**2).sum(axis=1)
    proxies = truths + 0.05 * rows[:, 0]
    known = {Mixture.from_array(NAMES, row).digest: float(value) for row, value in zip(rows, proxies, strict=True)}
    merges = Merges(
        Observations.of_values(rows, proxies),
        lambda mixture: known[mixture.digest],
        CappedSimplex.of(NAMES),
        (np.eye(4), np.ones(4)),
    )
    return Replay("known", rows, truths, merges)


def test_processes_change_nothing_and_every_method_answers() -> None:
    alone = run_truths([CASE], 3, 2, jobs=1)
    assert [one.method for one in alone] == list(METHODS)
    assert [one.at for one in alone] == [(1,), (3,), (3,), (3,)]
    assert all(regret >= 0 for one in alone for row in one.regrets for regret in row)
    assert [one.as_json() for one in run_truths([CASE], 3, 2, jobs=2)] == [one.as_json() for one in alone]


def test_truths_correct_the_proxy() -> None:
    found = {one.method: one for one in run_truths([CASE], 9, 2, jobs=1)}
    assert found[REFINE].median(1) == pytest.approx(found["proxy alone"].median(3))
    assert found[REFINE].median(3) < 0.7 * found[REFINE].median(1)


def test_biases_share_what_is_trained_without_merges() -> None:
    other = replace(CASE, bias="smooth")
    assert CASE.make(1).truth.digest == other.make(1).truth.digest
    found = run_truths([CASE, other], 3, 1, jobs=1)
    assert [one.regrets for one in found[2:4]] == [one.regrets for one in found[6:8]]
    assert found[0].regrets != found[4].regrets


def test_a_replay_trains_known_mixtures_alone_and_leaves_a_quarter_out() -> None:
    replay = _replay()
    problem = replay.make(0)
    assert problem.rows is not None and len(problem.rows) == 12
    assert problem.regret(problem.rows).min() == 0.0
    trained = problem.trained(problem.rows)
    np.testing.assert_allclose(trained, (problem.rows**2).sum(axis=1))
    found = {one.method: one for one in run_truths([replay], 12, 1, jobs=1)}
    assert found[PROCESS].median(12) == 0.0
    assert found[REFINE].at == (1, 2, 3, 4) and found[REFINE].median(4) == 0.0


def test_a_third_is_compared_with_all_of_the_others() -> None:
    refined = TruthResult("a", 4, REFINE, (1, 2), ((0.5, 0.1),))
    process = TruthResult("a", 4, PROCESS, (3, 6), ((0.4, 0.1),))
    swarm = TruthResult("a", 4, METHODS[3], (3, 6), ((0.6, 0.2),))
    assert [(one.held, one.asked) for one in thirds_of([refined, process, swarm])] == [(1, 2), (2, 2)]


def test_the_command_prints_and_draws(mixscout, tmp_path: Path) -> None:
    picture = tmp_path / "truths.png"
    options = ("--partitions", "3", "--seeds", 1, "--truths", 3)
    answer = mixscout("bench", "truths", *options, "--picture", picture)
    assert answer.code == 0, answer.err
    assert "vertices-3" in answer.out and "refine after a third of the trainings" in answer.out
    assert Image.open(picture).size[0] > 400
    assert answer.out.splitlines()[-1].startswith("next: mixscout refine --dry-run STUDY.toml")
    shown = json.loads(mixscout("bench", "truths", *options, "--json").out)
    assert len(shown) == 3 * len(METHODS) and {one["seeds"] for one in shown} == {1}
