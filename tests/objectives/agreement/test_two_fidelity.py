"""The model of both fidelities: better than an offset, honest about its errors, and the same left out as unseen."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from objectives.agreement.two_fidelity import ENOUGH_FOR_CONFORMAL, TwoFidelity, Yardstick

PARTITIONS, OUTPUTS = 4, 3


def some_problem(
    seed: int, truths: int, *, noise: float = 0.002
) -> tuple[np.ndarray, np.ndarray, np.ndarray, slice, slice]:
    """Proxies of 40 mixtures in three outputs, and truths of the first of them: a line, a smooth bias, and noise."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(PARTITIONS), size=40)
    proxy = 3 + 0.2 * weights @ rng.normal(size=(PARTITIONS, OUTPUTS))
    bias = 0.05 + 0.1 * (proxy - 3) + 0.04 * (weights**2) @ rng.normal(size=(PARTITIONS, OUTPUTS))
    truth = proxy + bias + noise * rng.normal(size=proxy.shape)
    return weights, proxy, truth, slice(truths), slice(truths, None)


def test_the_truths_of_new_mixtures_are_predicted_better_than_by_proxies_with_their_mean_error_taken_off() -> None:
    ratios = []
    for seed in range(8):
        weights, proxy, truth, known, asked = some_problem(seed, 10)
        model = TwoFidelity.fit(weights[known], proxy[known], truth[known], Yardstick.of(weights, proxy))
        predicted = model.predict(weights[asked], proxy[asked]).mean
        shifted = proxy[asked] + (truth[known] - proxy[known]).mean(axis=0)
        ratios.append(np.abs(predicted - truth[asked]).mean() / np.abs(shifted - truth[asked]).mean())
    assert np.median(ratios) < 0.6


@pytest.mark.parametrize("truths", [4, 8, 16])
def test_intervals_hold_about_their_share_of_new_truths(truths: int) -> None:
    held = []
    for seed in range(10):
        weights, proxy, truth, known, asked = some_problem(seed, truths)
        model = TwoFidelity.fit(weights[known], proxy[known], truth[known], Yardstick.of(weights, proxy))
        predicted = model.predict(weights[asked], proxy[asked])
        held.append(np.abs(predicted.mean - truth[asked]) <= predicted.half_width(0.9))
    assert 0.83 <= np.mean(held) <= 0.99


@example(seed=968, left=5)
@given(seed=st.integers(0, 1000), left=st.integers(0, ENOUGH_FOR_CONFORMAL - 2))
@settings(max_examples=5, deadline=None)
def test_a_truth_left_out_is_predicted_as_by_a_model_that_never_saw_it(seed: int, left: int) -> None:
    weights, proxy, truth, known, _ = some_problem(seed, ENOUGH_FOR_CONFORMAL - 1)
    yardstick = Yardstick.of(weights, proxy)
    others = np.delete(np.arange(ENOUGH_FOR_CONFORMAL - 1), left)
    without = TwoFidelity.fit(weights[others], proxy[others], truth[others], yardstick)
    asked = without.predict(weights[left : left + 1], proxy[left : left + 1])
    found = TwoFidelity.fit(weights[known], proxy[known], truth[known], yardstick).left_out()
    assert found.freedom == asked.freedom
    assert found.mean[left] == pytest.approx(asked.mean[0], abs=0.01 * float(yardstick.unit.max()))
    assert found.scale[left] == pytest.approx(asked.scale[0], rel=0.03)


def test_a_truth_known_without_noise_is_predicted_as_itself_with_a_narrow_interval() -> None:
    weights, proxy, truth, known, _ = some_problem(3, 8, noise=0.0)
    noise = np.full(OUTPUTS, 1e-5)
    yardstick = Yardstick.of(weights, proxy, noise=noise)
    found = TwoFidelity.fit(weights[known], proxy[known], truth[known], yardstick)
    again = found.predict(weights[known], proxy[known], noisy=False)
    assert again.mean == pytest.approx(truth[known], abs=5e-4)
    assert (again.half_width(0.9) < 0.002).all()


def test_known_noise_is_the_least_width_of_an_interval() -> None:
    weights, proxy, truth, known, asked = some_problem(1, 16)
    noise = np.full(OUTPUTS, 0.05)
    found = TwoFidelity.fit(weights[known], proxy[known], truth[known], Yardstick.of(weights, proxy, noise=noise))
    few = found.predict(weights[asked], proxy[asked], noisy=True).scale
    assert (few > found.predict(weights[asked], proxy[asked], noisy=False).scale).all()


def test_draws_have_the_mean_and_the_spread_of_predictions() -> None:
    weights, proxy, truth, known, asked = some_problem(2, 8)
    found = TwoFidelity.fit(weights[known], proxy[known], truth[known], Yardstick.of(weights, proxy))
    predicted = found.predict(weights[asked], proxy[asked], noisy=False)
    drawn = found.draws(weights[asked], proxy[asked], 1, np.random.default_rng(0), count=4000)
    assert drawn.shape == (4000, len(weights) - 8)
    assert drawn.mean(axis=0) == pytest.approx(predicted.mean[:, 1], abs=0.1 * float(predicted.scale[:, 1].max()))
    inside = np.abs(drawn - predicted.mean[:, 1]) <= predicted.half_width(0.9)[:, 1]
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


def test_a_single_truth_shifts_the_proxy() -> None:
    weights, proxy, truth, _, _ = some_problem(0, 1)
    found = TwoFidelity.fit(weights[:1], proxy[:1], truth[:1], Yardstick.of(weights, proxy)).predict(weights, proxy)
    assert found.mean[0] == pytest.approx(truth[0], abs=1e-3)
    assert (found.scale[1:] > found.scale[0]).all()


def test_no_truth_is_too_few() -> None:
    weights, proxy, truth, _, _ = some_problem(0, 1)
    with pytest.raises(ValueError, match="takes a trained mixture: there is none"):
        TwoFidelity.fit(weights[:0], proxy[:0], truth[:0], Yardstick.of(weights, proxy))
