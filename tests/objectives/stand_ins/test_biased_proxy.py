"""Biased proxies: the bias is of its kind, and gradients are those of the values."""

import numpy as np
import pytest

from objectives.stand_ins.biased_proxy import BIAS_NATS, BIASES, BiasedProxy, BiasKind
from objectives.stand_ins.problems import problem
from pool.mixture import Mixture

TRUTH = problem("exponential", "face", 8, seed=5)


@pytest.mark.parametrize("kind", BIASES)
def test_gradients_are_those_of_the_values(kind: BiasKind) -> None:
    proxy = BiasedProxy(TRUTH, kind, seed=2)
    weights = np.random.default_rng(0).dirichlet(np.ones(8))
    step = 1e-6 * np.eye(8)
    slopes = (proxy.exact(weights + step) - proxy.exact(weights - step)) / 2e-6
    np.testing.assert_allclose(proxy.partials(weights), slopes, atol=1e-7)
    mixture = Mixture.from_array(TRUTH.partitions, weights)
    evaluation = proxy.gradient(mixture)
    assert evaluation.value == proxy(mixture).value == float(proxy.exact(weights[None])[0])
    assert evaluation.gradient == tuple(proxy.partials(weights).tolist())


@pytest.mark.parametrize("kind", BIASES)
def test_biases_have_their_size_and_their_seed(kind: BiasKind) -> None:
    drawn = np.random.default_rng(1).dirichlet(np.full(8, 0.5), size=4000)
    proxy = BiasedProxy(TRUTH.with_noise(0.1, seed=1), kind, seed=2)
    assert (proxy.exact(drawn) - TRUTH.exact(drawn)).std() == pytest.approx(BIAS_NATS, rel=0.1)
    assert proxy.digest == BiasedProxy(TRUTH, kind, seed=2).digest != BiasedProxy(TRUTH, kind, seed=3).digest


def test_members_are_right_unless_the_optimum_is_moved() -> None:
    members = np.eye(8)
    right = [np.allclose(BiasedProxy(TRUTH, kind, seed=2).exact(members), TRUTH.exact(members)) for kind in BIASES]
    assert dict(zip(BIASES, right, strict=True)) == {"smooth": True, "vertices": True, "moved": False}
