"""The automatic surrogate: follows the evidence, and does not fall behind its best family."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.surrogates.automatic import FAMILIES, AutomaticSurrogate
from search.surrogates.surrogate import Observations

MIXTURES = np.random.default_rng(0).dirichlet(np.full(5, 0.5), size=90)
KNOWN, UNSEEN = MIXTURES[:30], MIXTURES[30:]
SLOPES = np.array([1.0, -2, 0.5, 1.5, -1])
LANDSCAPES = {
    "quadratic": lambda weights: (weights @ SLOPES) ** 2 + weights**2 @ SLOPES,
    "logarithms": lambda weights: np.log(weights + 1e-3) @ SLOPES,
    "law": lambda weights: 2 + np.exp(2 * weights @ SLOPES),
}


def _fitted(values: np.ndarray) -> AutomaticSurrogate:
    surrogate = AutomaticSurrogate()
    surrogate.fit(Observations.of_values(KNOWN, values))
    return surrogate


@pytest.mark.parametrize(
    ("landscape", "family"),
    [("quadratic", "scheffe"), ("logarithms", "gaussian_process_log"), ("law", "mixing_law")],
)
def test_it_finds_the_family_that_the_values_come_from(landscape: str, family: str) -> None:
    surrogate = _fitted(LANDSCAPES[landscape](KNOWN))
    assert surrogate.family == family
    assert surrogate.shares[family] > 0.9
    assert surrogate.errors.keys() == FAMILIES.keys()
    assert min(surrogate.errors, key=surrogate.errors.__getitem__) == family


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_it_is_not_behind_its_best_family(landscape: str) -> None:
    noise = np.random.default_rng(1).normal(size=30)
    values = LANDSCAPES[landscape](KNOWN)
    observed = values + 0.1 * values.std() * noise
    surrogate, truth = _fitted(observed), LANDSCAPES[landscape](UNSEEN)
    ranks = {}
    for name, make in FAMILIES.items():
        single = make()
        single.fit(Observations.of_values(KNOWN, observed))
        ranks[name] = spearmanr(single.predict(UNSEEN).mean, truth).statistic
    assert spearmanr(surrogate.predict(UNSEEN).mean, truth).statistic > max(ranks.values()) - 0.01


def test_families_that_disagree_widen_the_deviation() -> None:
    surrogate = _fitted(np.random.default_rng(2).normal(size=30))
    assert len(surrogate.shares) > 1
    assert sum(surrogate.shares.values()) == pytest.approx(1)
    singles = [(share, single.predict(UNSEEN)) for share, single in surrogate.fitted.chosen.values()]
    inside = np.sqrt(sum(share * prediction.deviation**2 for share, prediction in singles))
    assert np.all(surrogate.predict(UNSEEN).deviation >= inside)


def test_it_weighs_the_families_again_only_when_the_evidence_has_grown_by_a_quarter() -> None:
    values = LANDSCAPES["law"](KNOWN)
    surrogate = AutomaticSurrogate()
    surrogate.fit(Observations.of_values(KNOWN[:22], values[:22]))
    errors = surrogate.errors
    surrogate.fit(Observations.of_values(KNOWN[:27], values[:27]))
    assert surrogate.errors == errors
    surrogate.fit(Observations.of_values(KNOWN[:28], values[:28]))
    assert surrogate.errors != errors


def test_its_numbers_need_a_fit_first() -> None:
    with pytest.raises(RuntimeError, match="fit the surrogate before asking it"):
        _ = AutomaticSurrogate().errors
