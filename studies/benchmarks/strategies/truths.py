"""The verb `bench truths`: ways to spend a few trainings, by the regret of their answers at the level of trainings.

On formulas the proxy is the truth plus a bias, the regret is free of noise, and any mixture may be trained. On a study
the truths it has are replayed: only those mixtures may be trained, and every repeat leaves a quarter of them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import optuna
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from objectives.held_out import Floats
from objectives.stand_ins.biased_proxy import BIASES
from pool.mixture import Mixture
from pool.progress import track
from search.loop import Search, advance
from search.space import Weights
from search.strategies.designs import draw
from search.strategies.refine import Beliefs, refining
from search.strategies.registry import STRATEGIES
from search.strategies.surrogate import expected_improvement
from search.surrogates.automatic import AutomaticSurrogate
from search.surrogates.gaussian_process import GaussianProcessSurrogate
from search.surrogates.surrogate import Observations
from search.trials import completed_trials, value_of
from studies.benchmarks.strategies.training_problems import Replay, TruthCase, TruthProblem
from studies.terminal import quiet_libraries

REFINE, ALONE, PROCESS, RANDOM = METHODS = ("refine", "proxy alone", "gp on truths", "random truths")
OTHERS = 3
"""Trainings of the other methods for each of `refine`."""
CANDIDATES = 20_000
AVERAGED = 128
"""The answer of a regression: the mean of so many candidates of lowest prediction, as RegMix has it."""

_Courses = dict[str, dict[int, float]]
"""Regret by method and number of trainings."""


@dataclass(frozen=True)
class TruthResult:
    """A way to spend trainings on a case.

    at: numbers of trainings. regrets: nats after each of them (S, len(at)), one row a seed.
    """

    case: str
    partitions: int
    method: str
    at: tuple[int, ...]
    regrets: tuple[tuple[float, ...], ...]

    def median(self, truths: int) -> float:
        """Return the median regret over the seeds, after so many trainings."""
        return float(np.median([row[self.at.index(truths)] for row in self.regrets]))

    def as_json(self) -> dict[str, object]:
        quartiles = np.quantile(np.array(self.regrets), [0.25, 0.5, 0.75], axis=0)
        spread = dict(zip(("quarter", "median", "three_quarters"), quartiles.tolist(), strict=True))
        return {
            "case": self.case,
            "partitions": self.partitions,
            "method": self.method,
            "seeds": len(self.regrets),
            "truths": list(self.at),
            "regret_nats": spread,
            "by_seed": [list(row) for row in self.regrets],
        }


@dataclass(frozen=True)
class Third:
    """Whether `refine` with a third of the trainings is as good as another way, by medians over the seeds.

    held: pairs of a case and a number of trainings where it is, of all `asked`.
    """

    method: str
    held: int
    asked: int


def thirds_of(results: Sequence[TruthResult]) -> list[Third]:
    """Compare `refine` after N / 3 trainings with the others after N, over all cases and N."""
    refined = {one.case: one for one in results if one.method == REFINE}
    found = []
    for method in (PROCESS, RANDOM):
        others = [one for one in results if one.method == method]
        pairs = [(refined[one.case].median(count // OTHERS), one.median(count)) for one in others for count in one.at]
        found.append(Third(method, sum(mine <= theirs for mine, theirs in pairs), len(pairs)))
    return found


def truth_cases(partitions: Sequence[int], noise_nats: float) -> list[TruthCase]:
    return [TruthCase(bias, count, noise_nats) for count, bias in product(partitions, BIASES)]


def run_truths(wanted: Sequence[TruthCase | Replay], truths: int, seeds: int, *, jobs: int) -> list[TruthResult]:
    """Spend up to so many `truths` in every way, on every case and seed, in `jobs` processes."""
    alike = {case.trained: case for case in wanted}
    work = [(_without_merges, case) for case in alike.values()] + [(_with_merges, case) for case in wanted]
    tasks = (delayed(one)(case, truths, seed) for one, case in work for seed in range(seeds))
    courses: Iterator[_Courses] = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    plain: dict[str, list[_Courses]] = {}
    results: list[TruthResult] = []
    with track("cases", len(work)) as show:
        for number, (one, case) in enumerate(work, start=1):
            found = [next(courses) for _ in range(seeds)]
            if one is _without_merges:
                plain[case.trained] = found
            else:
                results += _results(
                    case, [here | there for here, there in zip(found, plain[case.trained], strict=True)]
                )
            show(number, case.name if one is _with_merges else f"{case.trained}, truths alone")
    return results


def _results(case: TruthCase | Replay, courses: Sequence[_Courses]) -> Iterator[TruthResult]:
    for method in METHODS:
        at = tuple(courses[0][method])
        rows = tuple(tuple(one[method][count] for count in at) for one in courses)
        yield TruthResult(case.name, case.partitions, method, at, rows)


def _with_merges(case: TruthCase | Replay, truths: int, seed: int) -> _Courses:
    """Follow the methods that merge, in one thread, for equal last digits everywhere."""
    quiet_libraries()
    with threadpool_limits(1):
        one = case.make(seed)
        counts = _counts(one, truths)
        alone = float(one.regret(one.first[None])[0])
        return {REFINE: _refined(one, len(counts), seed), ALONE: dict.fromkeys(counts, alone)}


def _without_merges(case: TruthCase | Replay, truths: int, seed: int) -> _Courses:
    """Follow the methods that only train, in one thread."""
    quiet_libraries()
    with threadpool_limits(1):
        one = case.make(seed)
        counts = _counts(one, truths)
        return {PROCESS: _by_process(one, counts, seed), RANDOM: _by_regression(one, counts, seed)}


def _counts(one: TruthProblem, truths: int) -> list[int]:
    most = truths if one.rows is None else min(truths, len(one.rows))
    return list(range(OTHERS, most + 1, OTHERS))


def _refined(one: TruthProblem, truths: int, seed: int) -> dict[int, float]:
    """The search of `refine`, begun at the best merge."""
    study, found = optuna.create_study(), {}
    start = {"best": Mixture.from_array(one.space.names, one.first)}
    search = Search(one.truth, one.space, refining(one.merges), seed, start=start)
    for count in range(1, truths + 1):
        advance(study, search, count)
        trials = completed_trials(study)
        beliefs = Beliefs.of(one.merges, one.space.weights_of_trials(trials), np.array([value_of(t) for t in trials]))
        found[count] = float(one.regret(beliefs.best[None])[0])
    return found


def _by_process(one: TruthProblem, counts: Sequence[int], seed: int) -> dict[int, float]:
    """Optuna's Gaussian process from the uniform mixture on; on rows, one with expected improvement from a random row.

    The answer is the lowest truth so far.
    """
    if one.rows is None:
        study, start = optuna.create_study(), {"uniform": Mixture.uniform(one.space.names)}
        advance(study, Search(one.truth, one.space, STRATEGIES["gp"], seed, start=start), max(counts))
        trials = completed_trials(study)
        weights, values = one.space.weights_of_trials(trials), np.array([value_of(trial) for trial in trials])
    else:
        weights, values = _walk_rows(one, max(counts), seed)
    regrets = one.regret(weights)
    return {count: float(regrets[int(np.argmin(values[:count]))]) for count in counts}


def _walk_rows(one: TruthProblem, most: int, seed: int) -> tuple[Weights, Floats]:
    assert one.rows is not None, "rows are asked for"
    order = np.random.default_rng([seed, 1]).permutation(len(one.rows)).tolist()
    taken, left = order[:OTHERS], order[OTHERS:]
    truths = one.trained(one.rows)
    while len(taken) < most:
        surrogate = GaussianProcessSurrogate()
        surrogate.fit(Observations.of_values(one.rows[taken], truths[taken]))
        improvement = expected_improvement(surrogate.predict(one.rows[left]), float(truths[taken].min()))
        taken.append(left.pop(int(np.argmax(improvement))))
    return one.rows[taken], truths[taken]


def _by_regression(one: TruthProblem, counts: Sequence[int], seed: int) -> dict[int, float]:
    """Random mixtures, and the answer of a regression on them: RegMix's way, by our automatic surrogate.

    RegMix's own trees split no fewer than 40 runs.
    """
    rng = np.random.default_rng([seed, 2])
    rows = one.rows
    if rows is None:
        every = np.stack([draw(one.space, rng).array for _ in range(max(counts))])
        candidates = np.stack([draw(one.space, rng).array for _ in range(CANDIDATES)])
    else:
        every, candidates = rows[rng.permutation(len(rows))], rows
    truths, found = one.trained(every), {}
    for count in counts:
        surrogate = AutomaticSurrogate()
        surrogate.fit(Observations.of_values(every[:count], truths[:count]))
        order = np.argsort(surrogate.predict(candidates).mean, kind="stable")
        answer = candidates[order[:AVERAGED]].mean(axis=0) if rows is None else candidates[order[0]]
        found[count] = float(one.regret(answer[None])[0])
    return found
