"""Figures of agreement: scipy's and brute force's, with their promises; and the noise floor, found in made data."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from objectives.agreement.statistics import NoiseFloor, bootstrap, interval_of, resampled, statistics_of

LOSSES = st.integers(3, 9).flatmap(
    lambda n: st.tuples(*[arrays(np.float64, n, elements=st.integers(-20, 20).map(lambda k: k / 8))] * 2)
)


def _figures(proxy: np.ndarray, truth: np.ndarray, noise: float = 0.0) -> dict[str, float]:
    return {name: float(one(proxy, truth)) for name, one in statistics_of(len(proxy), noise_difference=noise).items()}


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning", "ignore:invalid value:RuntimeWarning")
@settings(max_examples=60, deadline=None)
@given(LOSSES)
def test_figures_are_those_of_scipy_and_of_brute_force(pair: tuple[np.ndarray, np.ndarray]) -> None:
    proxy, truth = pair
    found = _figures(proxy, truth, noise=0.5)
    for name, reference in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        assert found[name] == pytest.approx(reference(proxy, truth).statistic, abs=1e-9, nan_ok=True)
    for name, least in (("decision_accuracy", 0.0), ("accuracy_beyond_noise", 0.5)):
        asked = [(i, j) for i, j in combinations(range(len(truth)), 2) if abs(truth[i] - truth[j]) > least]
        right = [(np.sign((proxy[i] - proxy[j]) * (truth[i] - truth[j])) + 1) / 2 for i, j in asked]
        assert found[name] == pytest.approx(np.mean(right) if right else np.nan, nan_ok=True)
    k = max(1, round(len(truth) / 4))
    best = sorted(range(len(truth)), key=lambda i: truth[i])[:k]
    chosen = sorted(range(len(truth)), key=lambda i: proxy[i])[:k]
    assert found["top_k_overlap"] == pytest.approx(len({*best} & {*chosen}) / k)
    assert found["low_tail_rmse"] == pytest.approx(np.sqrt(np.mean([(proxy[i] - truth[i]) ** 2 for i in best])))
    assert found["regret_at_1"] == truth[int(np.argmin(proxy))] - truth.min()


@settings(max_examples=40, deadline=None)
@given(LOSSES)
def test_regret_is_never_negative_and_a_perfect_proxy_is_perfect(pair: tuple[np.ndarray, np.ndarray]) -> None:
    proxy, truth = pair
    assert _figures(proxy, truth)["regret_at_1"] >= 0
    perfect = _figures(truth, truth)
    assert perfect["regret_at_1"] == perfect["rmse"] == perfect["bias"] == 0
    assert perfect["top_k_overlap"] == 1
    if np.ptp(truth) > 0:
        for name in ("pearson", "spearman", "kendall", "decision_accuracy"):
            assert perfect[name] == pytest.approx(1)


@settings(max_examples=10, deadline=None)
@given(LOSSES)
def test_every_interval_holds_its_figure(pair: tuple[np.ndarray, np.ndarray]) -> None:
    proxy, truth = pair
    for interval in bootstrap(statistics_of(len(proxy)), proxy, truth).values():
        assert np.isnan(interval.value) or interval.low <= interval.value <= interval.high


def test_intervals_are_those_of_scipy_s_bootstrap() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20)
    proxy = truth + rng.normal(size=20) / 2
    statistics = statistics_of(20)
    found = bootstrap(statistics, proxy, truth)
    for name in ("spearman", "decision_accuracy", "rmse"):
        reference = stats.bootstrap(
            (proxy, truth),
            lambda x, y, axis, one=statistics[name]: one(x, y),
            paired=True,
            vectorized=True,
            n_resamples=20_000,
            method="percentile",
            rng=1,
            batch=500,
        ).confidence_interval
        assert (found[name].low, found[name].high) == pytest.approx(reference, abs=0.025)


def test_without_repeats_no_accuracy_beyond_noise_is_claimed() -> None:
    assert "accuracy_beyond_noise" not in statistics_of(9)


def test_a_constant_proxy_has_no_correlation_and_says_so() -> None:
    found = bootstrap(statistics_of(8), np.ones(8), np.arange(8.0))
    assert str(found["pearson"]) == "-" and np.isnan(found["pearson"].low)
    assert found["decision_accuracy"].value == 0.5


@pytest.mark.parametrize("count", [5, 500])
def test_resamples_are_the_same_ones_every_time_whatever_their_portions(count: int) -> None:
    def drawn() -> np.ndarray:
        return resampled(lambda rows: np.moveaxis(rows, -1, 0), np.arange(float(count)))

    whole = drawn()
    assert whole.shape == (count, 2000) and whole.max() == count - 1
    np.testing.assert_array_equal(whole, drawn())
    np.testing.assert_array_equal(whole.T, np.random.default_rng([0, count]).integers(0, count, (2000, count)))


def test_a_single_mixture_has_a_figure_and_no_width() -> None:
    found = bootstrap({"bias": statistics_of(1)["bias"]}, np.array([2.0]), np.array([1.5]))["bias"]
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_an_interval_leaves_out_resamples_without_a_figure() -> None:
    interval = interval_of(0.5, np.array([np.nan, 0.4, 0.6, np.nan]))
    assert 0.4 <= interval.low < interval.high <= 0.6


MIXTURES, ORDERS = 300, 4
SHARED, OWN = 0.03, 0.01


def _losses() -> list[np.ndarray]:
    """Losses of mixtures in the same orders: an effect of the order that all share, and noise of each one's own."""
    rng = np.random.default_rng(0)
    table = (
        rng.normal(4, 1, (MIXTURES, 1)) + SHARED * rng.normal(size=ORDERS) + OWN * rng.normal(size=(MIXTURES, ORDERS))
    )
    return list(table)


def test_what_all_mixtures_share_in_an_order_is_no_noise_of_a_difference() -> None:
    losses = _losses()
    floor = NoiseFloor.of(losses, crossed=True)
    assert floor is not None
    differences = np.array(losses)[::2] - np.array(losses)[1::2]
    assert floor.deviation_of_difference == pytest.approx(np.sqrt(2) * OWN, rel=0.1)
    assert floor.deviation_of_difference == pytest.approx(np.sqrt(differences.var(axis=1, ddof=1).mean()), rel=0.1)
    assert floor.margin == pytest.approx(1.96 * floor.deviation_of_difference)


def test_the_deviation_is_the_pooled_one_with_its_chi_squared_interval() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        groups = [rng.normal(k, 0.5, size=3) for k in range(4)]
        floor = NoiseFloor.of([*groups, np.array([9.0])])
        assert floor is not None and floor.freedom == 8
        assert floor.deviation == pytest.approx(np.sqrt(np.mean([group.var(ddof=1) for group in groups])))
        assert floor.deviation_of_difference == pytest.approx(np.sqrt(2) * floor.deviation)
        inside += floor.low <= 0.5 <= floor.high
    assert 180 <= inside <= 199, "about 95 % of the intervals hold the truth"


def test_nothing_trained_twice_measures_nothing() -> None:
    assert NoiseFloor.of([np.array([1.0]), np.array([2.0])]) is None


def test_the_ceiling_of_pearson_is_reached_by_the_losses_without_noise() -> None:
    rng = np.random.default_rng(2)
    clean = rng.normal(size=4000)
    noisy = clean + 0.7 * rng.normal(size=4000)
    floor = NoiseFloor.of([rng.normal(0, 0.7, size=2000)])
    assert floor is not None
    assert floor.ceiling(noisy) == pytest.approx(np.corrcoef(clean, noisy)[0, 1], abs=0.02)
    assert floor.ceiling(np.zeros(5)) == floor.ceiling(0.01 * clean) == 0
