"""A penalty for leaving the prior: value and gradient have it, held-out losses do not."""

import numpy as np
import optuna
import pytest

from objectives.evaluation import Evaluation
from objectives.losses.merged_loss import MergedLoss
from objectives.losses.regularised import RegularisedLoss, divergence, regularised
from objectives.merging.merge import StackedPool
from objectives.stand_ins.analytic import QuadraticLoss
from objectives.target import Goal
from pool.mixture import Mixture
from pool.parts.store import Pool
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES

NAMES = ("a", "b", "c")
PRIOR = Mixture.of({"a": 0.2, "b": 0.3, "c": 0.5})
LOSS = QuadraticLoss(Mixture.of({"a": 0.6, "b": 0.3, "c": 0.1}), [1.0, 2.0, 1.0], floor=2.0)


def test_the_divergence_is_zero_at_the_prior_and_a_vertex_costs_its_information() -> None:
    assert divergence(PRIOR.array, PRIOR.array) == pytest.approx(0.0, abs=1e-15)
    assert divergence(np.array([1.0, 0.0, 0.0]), PRIOR.array) == pytest.approx(np.log(5))


def test_value_and_gradient_are_those_of_the_sum() -> None:
    objective = regularised(LOSS, PRIOR, 0.7)
    assert objective.gradient is not None
    inside = Mixture.of({"a": 0.5, "b": 0.3, "c": 0.2})
    found, plain = objective.gradient(inside), LOSS.gradient(inside)
    assert found.value == pytest.approx(plain.value + 0.7 * divergence(inside.array, PRIOR.array))
    along = np.array([1.0, -0.4, -0.6])
    ahead, behind = (objective(Mixture.from_array(NAMES, inside.array + sign * 1e-5 * along)).value for sign in (1, -1))
    assert float(np.array(found.gradient) @ along) == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)


def test_the_gradient_is_finite_where_a_weight_is_zero_and_points_inwards() -> None:
    objective = regularised(LOSS, PRIOR, 0.7)
    assert objective.gradient is not None
    gradient = objective.gradient(Mixture.vertex(NAMES, "a")).gradient
    assert gradient is not None and np.isfinite(gradient).all()
    assert gradient[0] > max(gradient[1:])


def test_partitions_in_another_order_are_matched_by_name() -> None:
    mixture = Mixture.of({"c": 0.2, "a": 0.5, "b": 0.3})
    assert regularised(LOSS, PRIOR, 1.0)(mixture).value == regularised(LOSS, PRIOR, 1.0)(mixture.over(NAMES)).value


def test_the_digest_covers_prior_and_strength() -> None:
    digests = {
        LOSS.digest,
        regularised(LOSS, PRIOR, 0.1).digest,
        regularised(LOSS, PRIOR, 0.2).digest,
        regularised(LOSS, Mixture.uniform(NAMES), 0.1).digest,
    }
    assert len(digests) == 4
    assert regularised(LOSS, PRIOR, 0.1)(PRIOR).objective_digest in digests
    assert regularised(LOSS, PRIOR, 0.0) is LOSS


def test_held_out_losses_stay_and_it_does_not_stop_early(tiny_pool: Pool, tiny_stack: StackedPool) -> None:
    loss = MergedLoss(tiny_pool, tiny_stack, Goal.of({"prose": 1.0}), "search")
    objective = regularised(loss, tiny_pool.proportional(), 0.5)
    mixture = Mixture.vertex(tiny_pool.names, "code")
    found, plain = objective(mixture), loss(mixture)
    assert found.domains == plain.domains
    assert found.windows is not None and plain.windows is not None
    assert found.value > plain.value and found.values == (found.value,)
    assert loss.challenge is not None and objective.challenge is None


def test_a_prior_that_is_zero_where_a_mixture_is_not_is_refused() -> None:
    objective = regularised(LOSS, Mixture.of({"a": 0.5, "b": 0.5, "c": 0.0}), 1.0)
    with pytest.raises(ValueError, match="infinite where the prior is 0"):
        objective(Mixture.uniform(NAMES))
    assert np.isfinite(objective(Mixture.vertex(NAMES, "b")).value)
    with pytest.raises(ValueError, match="must be 0 or more"):
        RegularisedLoss(LOSS, PRIOR, -1.0)


def test_an_objective_without_gradients_has_none_with_a_penalty() -> None:
    class OnlyValues:
        partitions = NAMES
        digest = "0" * 64
        gradient = challenge = foundation = None

        def __call__(self, mixture: Mixture) -> Evaluation:
            return LOSS(mixture)

    assert regularised(OnlyValues(), PRIOR, 1.0).gradient is None


@pytest.mark.parametrize("strategy", ["gradient", "gp"])
def test_a_stronger_penalty_leads_nearer_to_the_prior(strategy: str) -> None:
    space = CappedSimplex.of(NAMES)

    def away(strength: float) -> float:
        study = optuna.create_study()
        objective = regularised(LOSS, PRIOR, strength)
        advance(study, Search(objective, space, STRATEGIES[strategy], 0, None, {"p": PRIOR}), 18)
        return float(np.abs(space.mixture_of(study.best_trial).array - PRIOR.array).max())

    assert away(0.0) > away(0.5) + 0.05 > away(10.0) + 0.1
