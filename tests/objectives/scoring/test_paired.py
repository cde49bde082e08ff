"""Promises of paired comparisons and of early stopping, on windows with a known truth."""

import math

import numpy as np
import pytest

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.merging.merge import StackedPool
from objectives.scoring.paired import LOOKS, Challenge, EarlyStopping, Estimate, paired_difference, segments
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.held_out import IGNORED, HeldOutWindows

TARGET = Goal.of({"x": 0.7, "y": 0.3})


def _windows(count: int, documents: int) -> HeldOutWindows:
    targets = np.full((count, 8), 5, dtype=np.int32)
    targets[::3, 6:] = IGNORED
    document = np.sort(np.arange(count) % documents).astype(np.int32)
    return HeldOutWindows(targets.copy(), targets, document, np.full(count, 20), words=count)


def _table(count: int = 120, documents: int = 30) -> WindowTable:
    return WindowTable.of({"x": _windows(count, documents), "y": _windows(count // 2, documents // 2)}, ["x", "y"])


def _nats(table: WindowTable, seed: int) -> Floats:
    """Documents differ much, windows within them less."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(4, 1, size=table.document.max() + 1)[table.document]
    nats: Floats = table.tokens * np.abs(hard + rng.normal(0, 0.3, size=len(hard)))
    return nats


def test_a_mixture_can_t_be_told_apart_from_itself() -> None:
    table = _table()
    paired = paired_difference(TARGET, table, _nats(table, 0), _nats(table, 0))
    assert (paired.difference, paired.standard_error, paired.told_apart) == (0.0, 0.0, False)


def test_pairing_tells_apart_what_single_errors_do_not() -> None:
    table = _table()
    nats = _nats(table, 0)
    better = nats - 0.05 * table.tokens
    paired = paired_difference(TARGET, table, nats, better)
    assert paired.difference == pytest.approx(0.05)
    assert paired.told_apart
    assert TARGET.standard_error(table.losses(nats)) > 0.05
    assert "can't be told apart" not in str(paired)


def test_differences_smaller_than_chance_are_said_to_be_so() -> None:
    table = _table()
    paired = paired_difference(TARGET, table, _nats(table, 0), _nats(table, 0) + _noise(table, 1))
    assert not paired.told_apart
    assert "can't be told apart" in str(paired)


def _noise(table: WindowTable, seed: int) -> Floats:
    noise: Floats = np.random.default_rng(seed).normal(0, 2.0, size=len(table.tokens))
    return noise


def test_the_paired_error_covers_the_truth_as_often_as_it_says() -> None:
    table = _table()
    base = _nats(table, 0)
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        by_document = rng.normal(0, 1.0, size=table.document.max() + 1)[table.document]
        paired = paired_difference(TARGET, table, base + by_document + rng.normal(size=len(base)), base)
        covered += not paired.told_apart
    assert 0.9 < covered / 300 < 0.985, "the truth, no difference, lies within 95 % intervals"


def test_a_single_document_has_no_error() -> None:
    table = _table(12, 2)
    paired = paired_difference(TARGET, table, _nats(table, 0), _nats(table, 1))
    assert math.isinf(paired.standard_error) and not paired.told_apart
    assert "single document" in str(paired)


def test_segments_hold_every_window_once_in_a_fixed_stratified_order() -> None:
    table = _table()
    parts = segments(table, 0)
    assert len(parts) == len(LOOKS) + 1
    assert sorted(np.concatenate(parts)) == list(range(180))
    first = table.domain[np.concatenate(parts[:2])]
    assert abs((first == 0).mean() - 2 / 3) < 0.05, "domains are spread evenly"
    assert all(map(np.array_equal, parts, segments(table, 0)))
    assert not np.array_equal(parts[0], segments(table, 1)[0])


def test_the_estimate_ends_at_the_value_of_a_full_evaluation_with_no_error_left() -> None:
    table = _table()
    nats = _nats(table, 1)
    estimate = Challenge(TARGET, table, _nats(table, 0)).estimate(np.arange(180), nats)
    assert estimate.value == pytest.approx(TARGET.value(table.losses(nats)))
    assert estimate.standard_error == pytest.approx(0, abs=1e-9)


def test_too_few_windows_decide_nothing() -> None:
    table = _table()
    estimate = Challenge(TARGET, table, _nats(table, 0)).estimate(np.arange(5), _nats(table, 1)[:5])
    assert not estimate.above(0.0, 0.9)
    assert not Estimate(9.0, math.inf, 1.0).above(0.0, 0.9)


def test_winners_are_stopped_no_more_often_than_the_error_rate_says() -> None:
    """Mixtures better than the incumbent by a hair, the hardest case, over many orders of the windows."""
    table, rule = _table(), EarlyStopping(error_rate=0.2)
    incumbent = _nats(table, 0)
    stopped = 0
    for seed in range(400):
        noise = _noise(table, seed)
        means = {e: noise[table.domain == e].sum() / table.tokens[table.domain == e].sum() for e in (0, 1)}
        nats = incumbent + noise - np.vectorize(means.get)(table.domain) * table.tokens - 1e-9
        challenge = Challenge(TARGET, table, incumbent)
        assert TARGET.value(table.losses(nats)) < challenge.value
        read = np.empty(0, dtype=np.int64)
        for rows in segments(table, seed)[:-1]:
            read = np.concatenate([read, rows])
            if challenge.estimate(read, nats[read]).above(challenge.value, rule.confidence):
                stopped += 1
                break
    assert stopped / 400 < 0.2


@pytest.mark.parametrize("rate", [0.0, 0.5, -1.0])
def test_an_error_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 0.5"):
        EarlyStopping(error_rate=rate)


@pytest.fixture
def objective(tiny_pool: Pool, tiny_stack: StackedPool) -> MergedLoss:
    target = Goal.of({"licences": 0.6, "prose": 0.4})
    settings = ProxySettings(early_stopping=EarlyStopping(error_rate=0.4))
    return MergedLoss(tiny_pool, tiny_stack, target, "search", settings=settings)


def _best_and_worst(objective: MergedLoss) -> tuple[Evaluation, Evaluation]:
    names = objective.partitions
    mixtures = [Mixture.uniform(names), *(Mixture.vertex(names, name) for name in names)]
    evaluations = sorted((objective(mixture) for mixture in mixtures), key=lambda one: one.value)
    return evaluations[0], evaluations[-1]


def test_a_hopeless_mixture_is_stopped_early_with_an_estimate_above_the_incumbent(objective: MergedLoss) -> None:
    best, worst = _best_and_worst(objective)
    stopped = objective.challenge(worst.mixture, best)
    assert stopped.stopped_early
    assert 0 < stopped.tokens_read < worst.tokens_read
    assert best.value < stopped.value
    assert abs(stopped.value - worst.value) < 6 * stopped.standard_error
    assert stopped.windows is None and not stopped.domains


def test_a_stopped_evaluation_says_what_it_left_unread_of_each_domain(objective: MergedLoss) -> None:
    """Every domain is read in step, so that each has its share of windows at every look."""
    best, worst = _best_and_worst(objective)
    stopped, sizes = objective.challenge(worst.mixture, best), objective.table.tokens_but_for()
    assert sum(stopped.unread.values()) + stopped.tokens_read == sum(sizes.values()) == worst.tokens_read
    assert set(stopped.unread) == {"licences", "prose"} and not worst.unread
    window = objective.table.inputs.shape[1]
    share = stopped.tokens_read / worst.tokens_read
    for name, size in sizes.items():
        assert abs(size - stopped.unread[name] - share * size) <= window
    assert objective.table.tokens_but_for(np.arange(len(objective.table.domain))) == dict.fromkeys(sizes, 0)


def test_a_better_mixture_is_evaluated_in_full_to_the_same_value(objective: MergedLoss) -> None:
    best, worst = _best_and_worst(objective)
    challenge = objective.challenge(best.mixture, worst)
    assert not challenge.stopped_early
    assert (challenge.value, challenge.domains, challenge.tokens_read) == (best.value, best.domains, best.tokens_read)


def test_an_incumbent_without_windows_is_refused(objective: MergedLoss) -> None:
    best, worst = _best_and_worst(objective)
    with pytest.raises(ValueError, match="evaluate it again"):
        objective.challenge(worst.mixture, objective.challenge(worst.mixture, best))
