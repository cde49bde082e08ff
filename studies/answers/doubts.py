"""Doubts about the answer of a study on a swarm, as sentences to read before any mixture is believed."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from objectives.agreement.statistics import Interval
from objectives.held_out import Floats
from objectives.stand_ins.diverged import MOST, far_rows
from pool.mixture import SUM_TOLERANCE, Mixture
from search.trials import best_trial, completed_trials, value_of
from studies.answers.ages import doubts_of_ages
from studies.answers.goal_predictor import Accuracy, GoalPredictor, ScalesAnswer
from studies.opened.on_table import COVERAGE, SwarmBench, swarm_bench
from studies.opened.opened_study import OpenedStudy
from studies.opened.runs import constant_metrics
from studies.study_file.study_file import StudyFile

LEAST_SPEARMAN = 0.2
"""A rank correlation below this is near zero, however many runs there are."""
LEAST_DOUBTED = 4
"""Fewer mixtures trained at both scales give no reason for a doubt."""
ONE_IN_TWENTY = 1.645
"""Deviations of a normal law that chance exceeds once in twenty times."""
BEYOND = 1.0
"""Spreads of the measured values that a plausible prediction may lie outside of them."""


def doubts_of_study(bench: SwarmBench, goal: GoalPredictor | None = None) -> list[str]:
    """List the doubts about every prediction: runs left out, predictions no better than chance, constant metrics."""
    predictor = goal or GoalPredictor(bench.swarm, bench.target, coverage=COVERAGE)
    chance = no_better_than_chance(predictor.accuracy_to_judge())
    return [*_of_runs(bench), *([chance] if chance else []), *_of_metrics(bench)]


def doubts_of_search(bench: OpenedStudy) -> list[str]:
    """List the doubts to tell at the end of a search: on a pool, of merges far outside, and of ages."""
    study = bench.known_study()
    trials = completed_trials(study)
    if isinstance(bench, SwarmBench):
        predictor = GoalPredictor(bench.swarm, bench.target, coverage=COVERAGE)
        best = best_trial(trials)
        mixture = bench.space.mixture_of(best) if best else None
        return [*doubts_of_study(bench, predictor), *(_of_best(bench, predictor, mixture) if mixture else [])]
    far = far_merges([bench.space.mixture_of(trial) for trial in trials], [value_of(trial) for trial in trials])
    return [*far, *doubts_of_ages(bench, study)]


def far_merges(mixtures: Sequence[Mixture], values: Sequence[float]) -> list[str]:
    """Say which of N merges have values far outside the others', as merges of a member that diverged have."""
    if len(values) < MOST:
        return []
    far = far_rows(np.array([one.array for one in mixtures]), np.array(values)).tolist()
    if not far:
        return []
    worst = max(far, key=lambda row: values[row])
    largest = max(mixtures[worst].as_dict().items(), key=lambda item: item[1])
    others = np.delete(np.array(values), far)
    return [
        f"{len(far)} of {len(values)} merges lie far outside, at most {values[worst]:.4f} ({largest[0]} "
        f"{largest[1]:.2f}; the others {others.min():.4f} to {others.max():.4f}): a member may have diverged. "
        "`mixscout pool check` on the pool file measures the members."
    ]


def doubts_of_table(config: StudyFile) -> list[str]:
    """Open a searched study on a swarm for its doubts; none on a pool."""
    if config.table is None:
        return []
    with swarm_bench(config, must_exist=True) as bench:
        return doubts_of_search(bench)


def doubts_of_mixture(mixture: Mixture, runs: Floats) -> list[str]:
    """List the doubts about a mixture: weights that none of runs (N, K) has, and a place further off than any's."""
    most = dict(zip(mixture.names, runs.max(axis=0).tolist(), strict=True))
    above = {name: weight for name, weight in mixture.as_dict().items() if weight > most[name] + SUM_TOLERANCE}
    said = ", ".join(f"{name} {weight:.4f} (at most {most[name]:.4f} in a run)" for name, weight in above.items())
    doubts = [f"The best mixture extrapolates to weights that no run has: {said}."] if above else []
    distance, furthest = distance_to_runs(mixture, runs), max(distances_between(runs))
    if distance > furthest:
        doubts.append(
            f"The best mixture is {distance:.3f} from the nearest run (total variation), and no run is further than "
            f"{furthest:.3f} from its nearest: the intervals may be too narrow there."
        )
    return doubts


def doubts_of_scales(found: ScalesAnswer) -> list[str]:
    """Say where the scale that predicts ranks the mixtures trained at both scales unlike the target."""
    both = found.with_target
    if both.shared < LEAST_DOUBTED or both.spearman.value >= LEAST_SPEARMAN:
        return []
    return [
        f"Scale {found.source} does not rank the {both.shared} mixtures trained at both scales as {found.target} does "
        f"(Spearman {both.spearman}): train more mixtures at {found.target} before its prediction is believed."
    ]


def implausible(predicted: Mapping[str, Interval], measured: Floats) -> Iterator[str]:
    """Name the predictions that are not plausible beside the values (N,) of the runs.

    They lie outside these values by more than `BEYOND` of their spread, or have another sign than all of them.
    """
    low, high = float(measured.min()), float(measured.max())
    reach = BEYOND * (high - low)
    for what, one in predicted.items():
        other_sign = (low > 0 and one.value <= 0) or (high < 0 and one.value >= 0)
        if other_sign or not low - reach <= one.value <= high + reach:
            yield f"{what}: {one.value:.4f} is not plausible, as the runs measure {low:.4f} to {high:.4f}."


def distance_to_runs(mixture: Mixture, runs: Floats) -> float:
    """Return the total variation, sum |w - v| / 2, from a mixture to the nearest of runs (N, K)."""
    return float(_distances(mixture.array, runs).min())


def distances_between(runs: Floats) -> list[float]:
    """Return the total variation from each of the runs (N, K) to its nearest."""
    return [float(_distances(row, np.delete(runs, at, axis=0)).min()) for at, row in enumerate(runs)]


def _distances(weights: Floats, runs: Floats) -> Floats:
    distances: Floats = np.abs(runs - weights).sum(axis=1) / 2
    return distances


def _of_best(bench: SwarmBench, predictor: GoalPredictor, mixture: Mixture) -> Iterator[str]:
    (predicted,) = predictor.predict(mixture.array[None])
    yield from implausible({"best mixture, value": predicted}, predictor.known())
    yield from doubts_of_mixture(mixture, bench.swarm.places)


def _of_runs(bench: SwarmBench) -> Iterator[str]:
    if bench.diverged:
        runs = "; ".join(map(str, bench.diverged))
        yield f"Left out of the table as far outside: {runs}. To keep them: keep_diverged in the study file."


def no_better_than_chance(found: Accuracy) -> str | None:
    """Say that predictions rank the runs no better than chance; None where they do.

    The rank correlation of N runs is then below `LEAST_SPEARMAN`, or below 1.645 / sqrt(N - 1), which chance exceeds
    once in twenty times.
    """
    needed = max(LEAST_SPEARMAN, ONE_IN_TWENTY / math.sqrt(found.runs - 1))
    if found.spearman is not None and found.spearman >= needed:
        return None
    shown = "not defined" if found.spearman is None else f"{found.spearman:.3f}"
    return (
        f"Useless: predictions rank the runs no better than chance (Spearman out of fold {shown} over {found.runs} "
        f"runs, where {needed:.2f} is needed). Do not train on a mixture from this table and target."
    )


def _of_metrics(bench: SwarmBench) -> Iterator[str]:
    for metric in constant_metrics(bench.swarm.table, bench.target.domains):
        value = bench.swarm.table.metrics[metric][0]
        yield f"The metric {metric!r} is constant, {value:g} in all runs: nothing is learnt from it."
