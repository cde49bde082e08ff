"""The suite of the `Objective` protocol: every implementation keeps these promises."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine

from objectives.evaluation import Objective
from objectives.losses.merged_loss import MergedLoss, ProxySettings
from objectives.losses.trained_loss import TrainedLoss
from objectives.merging.merge import StackedPool
from objectives.merging.rules import make_rule
from objectives.stand_ins.analytic import QuadraticLoss
from objectives.stand_ins.problems import ExponentialLawLoss, LinearLawLoss, ScheffeLoss
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.stand_ins.tabulated_loss import FittedSwarm, TabulatedLoss
from objectives.target import Goal
from pool.config.pool_file import read_pool_file
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool
from search.surrogates.surrogate import Floats, Prediction
from studies.database.evaluations import EvaluationStore
from studies.database.leases import TABLES, Leases
from studies.database.remembered import RememberedObjective

TARGET = Goal.of({"licences": 0.6, "prose": 0.4})
NAMES = ("code", "docs", "prose")

Make = Callable[[Pool, StackedPool, Path], Objective]


def _quadratic() -> QuadraticLoss:
    return QuadraticLoss(Mixture.of({"code": 0.5, "docs": 0.3, "prose": 0.2}), [1.0, 2.0, 0.5], floor=3.0)


OPTIMUM = Mixture.of({"code": 0.7, "docs": 0.3, "prose": 0.0})


def _scheffe() -> ScheffeLoss:
    quadratic = np.array([[1.0, 0.3, 0], [0.3, 2, -0.2], [0, -0.2, 0.5]])
    return ScheffeLoss.with_optimum(OPTIMUM, quadratic, np.ones(3), best_value=3.0)


def _exponential() -> ExponentialLawLoss:
    slopes = np.array([[-2.0, 0.1, 0.4], [0.2, -1, 0.1]])
    return ExponentialLawLoss.with_optimum(OPTIMUM, slopes, np.array([0.2, 0.3]), np.ones(3), best_value=3.0)


class _Line:
    """The exact straight line through the values at a table's vertices."""

    def __init__(self, vertices: Floats, values: Floats) -> None:
        self._vertices, self._values = vertices, values

    def predict(self, weights: Floats) -> Prediction:
        return Prediction(weights @ self._values, np.full(len(weights), 0.1))

    def out_of_fold(self) -> Prediction:
        return self.predict(self._vertices)


def _tabulated() -> TabulatedLoss:
    """Predicts by the exact straight line through the table's three vertices."""
    table = SwarmTable(("x", "y", "z"), NAMES, np.eye(3), {"licences": np.array([3.0, 4, 5]), "prose": np.ones(3)})
    return TabulatedLoss(FittedSwarm(table, _Line, method="line"), TARGET)


def _store(folder: Path) -> EvaluationStore:
    engine = create_engine(f"sqlite:///{folder / 'evaluations.db'}")
    TABLES.create_all(engine)
    return EvaluationStore(engine, Leases(engine, seconds=60))


MAKERS: dict[str, Make] = {
    "merged": lambda pool, stack, folder: MergedLoss(pool, stack, TARGET, "search"),
    "merged by powers": lambda pool, stack, folder: MergedLoss(
        pool, stack, TARGET, "search", settings=ProxySettings(make_rule("power", 0.5))
    ),
    "merged, common direction whole": lambda pool, stack, folder: MergedLoss(
        pool, stack, TARGET, "search", settings=ProxySettings(make_rule("common-specific", 0.5))
    ),
    "merged row by row": lambda pool, stack, folder: MergedLoss(
        pool, stack, TARGET, "search", settings=ProxySettings(make_rule("fisher", 0.75))
    ),
    "trained": lambda pool, stack, folder: TrainedLoss(pool, stack, TARGET, "test"),
    "quadratic": lambda pool, stack, folder: _quadratic(),
    "noisy quadratic": lambda pool, stack, folder: _quadratic().with_noise(0.01, seed=0),
    "scheffe": lambda pool, stack, folder: _scheffe(),
    "linear law": lambda pool, stack, folder: LinearLawLoss(NAMES, np.array([3.4, 3.2, 3.6])),
    "exponential law": lambda pool, stack, folder: _exponential(),
    "tabulated": lambda pool, stack, folder: _tabulated(),
    "remembered merged": lambda pool, stack, folder: RememberedObjective(
        MergedLoss(pool, stack, TARGET, "search"), _store(folder)
    ),
    "remembered tabulated": lambda pool, stack, folder: RememberedObjective(_tabulated(), _store(folder)),
    "remembered quadratic": lambda pool, stack, folder: RememberedObjective(_quadratic(), _store(folder)),
}


@pytest.fixture(scope="module")
def own_pool(built_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A copy of the tiny pool: really trained mixtures are kept in it."""
    folder = tmp_path_factory.mktemp("own") / "root"
    shutil.copytree(built_root, folder)
    return open_pool(read_pool_file(folder / "pool.toml"))


@pytest.fixture(params=MAKERS)
def objective(request: pytest.FixtureRequest, own_pool: Pool, tiny_stack: StackedPool, tmp_path: Path) -> Objective:
    return MAKERS[request.param](own_pool, tiny_stack, tmp_path)


def test_it_is_an_objective_over_its_partitions(objective: Objective) -> None:
    assert isinstance(objective, Objective)
    assert objective.partitions == NAMES
    assert len(objective.digest) == 64


def test_the_same_mixture_has_the_same_value(objective: Objective) -> None:
    mixture = Mixture.of({"code": 0.25, "docs": 0.25, "prose": 0.5})
    first = objective(mixture)
    objective(Mixture.vertex(NAMES, "code"))
    assert objective(mixture).value == first.value
    assert objective(mixture).kind == first.kind
    assert first.objective_digest == objective.digest
    assert first.mixture == mixture


def test_the_order_of_partitions_does_not_matter(objective: Objective) -> None:
    mixture = Mixture.of({"prose": 0.5, "code": 0.25, "docs": 0.25})
    assert objective(mixture).value == pytest.approx(objective(mixture.over(NAMES)).value, abs=1e-12)


def test_the_value_is_that_of_its_domains(objective: Objective) -> None:
    evaluation = objective(Mixture.uniform(NAMES))
    if evaluation.domains:
        assert evaluation.value == pytest.approx(TARGET.loss_nats(evaluation.domains))
        assert 0 < evaluation.standard_error < evaluation.value
        assert evaluation.windows is not None
        nats = {name: part.sum() for name, part in evaluation.windows.items()}
        assert nats == pytest.approx({name: loss.nats for name, loss in evaluation.domains.items()})
        assert set(evaluation.domains) == set(TARGET.domains)


def test_different_mixtures_have_different_values(objective: Objective) -> None:
    values = {objective(Mixture.vertex(NAMES, name)).value for name in NAMES}
    assert len(values) == len(NAMES)


def test_an_unknown_partition_is_refused_by_name(objective: Objective) -> None:
    with pytest.raises(ValueError, match="wiki"):
        objective(Mixture.of({"code": 0.5, "wiki": 0.5}))


def test_the_gradient_agrees_with_the_value_and_is_in_the_mixture_s_order(objective: Objective) -> None:
    if objective.gradient is None:
        pytest.skip("this objective has no gradient")
    mixture = Mixture.of({"prose": 0.5, "code": 0.3, "docs": 0.2})
    with_gradient = objective.gradient(mixture)
    assert with_gradient.value == pytest.approx(objective(mixture).value, rel=1e-6)
    assert with_gradient.gradient is not None
    reordered = objective.gradient(mixture.over(NAMES)).gradient
    assert reordered is not None
    assert np.allclose(with_gradient.gradient, [reordered[2], reordered[0], reordered[1]], rtol=1e-5)


def test_what_is_remembered_is_marked_and_costs_nothing(
    tiny_pool: Pool, tiny_stack: StackedPool, tmp_path: Path
) -> None:
    objective = MAKERS["remembered merged"](tiny_pool, tiny_stack, tmp_path)
    mixture = Mixture.uniform(NAMES)
    first, second = objective(mixture), objective(mixture)
    assert not first.cached and first.tokens_read > 0
    assert second.cached and second.tokens_read == 0 and second.seconds == 0
    assert (second.value, second.domains, second.standard_error) == (
        first.value,
        first.domains,
        first.standard_error,
    )
    assert objective.gradient is not None
    assert not objective.gradient(mixture).cached, "a value without a gradient does not answer for one"
    assert objective.gradient(mixture).cached and objective(mixture).cached


def test_a_row_written_by_another_process_in_between_is_no_error(tmp_path: Path) -> None:
    store, objective = _store(tmp_path), _quadratic()
    mixture = Mixture.uniform(NAMES)
    store.keep(objective.gradient(mixture))
    store.keep(objective(mixture))
    found = store.find(objective.digest, mixture)
    assert found is not None and found.gradient is not None, "a value alone does not replace a gradient"
