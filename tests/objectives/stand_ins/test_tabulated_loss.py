"""A table of trained models as an objective: read by name and by id, refused with a reason, predicted per metric."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable, read_swarm, read_swarms, write_swarm
from objectives.stand_ins.tabulated_loss import FittedSwarm, Predictor, TabulatedLoss
from objectives.target import Goal, Target
from pool.errors import ConfigError
from pool.mixture import Mixture
from search.surrogates.surrogate import Prediction

REGMIX = Path(__file__).parents[2] / "support" / "swarm" / "regmix"
PILE_CC, GITHUB = "the_pile_pile_cc", "the_pile_github"

RATIOS = "run,code,docs,prose\nx,0.5,0.25,0.25\ny,0.2,0.3,0.5\nz,0,0,1\n"
METRICS = "run,licences,novels\nx,3.5,4\ny,3.25,4.5\nz,3,5e0\n"


def _write(folder: Path, ratios: str = RATIOS, metrics: str = METRICS) -> Path:
    (folder / "ratios.csv").write_text(ratios)
    (folder / "metrics.csv").write_text(metrics)
    return folder


class FittedRidge:
    """Ridge regression on sqrt(w), with the residuals' spread as deviation."""

    def __init__(self, weights: Floats, values: Floats) -> None:
        self._weights, self._values = weights, values
        self._middle, self._center = np.sqrt(weights).mean(axis=0), values.mean()
        features = np.sqrt(weights) - self._middle
        self._inner = features.T @ features + 0.1 * np.eye(weights.shape[1])
        self._slopes = np.linalg.solve(self._inner, features.T @ (values - self._center))
        self._spread = float((features @ self._slopes + self._center - values).std())

    def predict(self, asked: Floats) -> Prediction:
        means = (np.sqrt(asked) - self._middle) @ self._slopes + self._center
        return Prediction(means, np.full(len(asked), self._spread))

    def out_of_fold(self) -> Prediction:
        """Leave one out in closed form: y - e / (1 - h), with the hat matrix of the centred regression."""
        features = np.sqrt(self._weights) - self._middle
        hat = np.einsum("nk,kn->n", features, np.linalg.solve(self._inner, features.T)) + 1 / len(features)
        errors = self._values - self.predict(self._weights).mean
        return Prediction(self._values - errors / (1 - hat), np.full(len(features), self._spread))


class Ridge:
    """Fits ridge regressions and counts them."""

    def __init__(self) -> None:
        self.fits = 0

    def __call__(self, weights: Floats, values: Floats) -> Predictor:
        self.fits += 1
        return FittedRidge(weights, values)


def test_two_files_are_read_by_their_paths() -> None:
    table = read_swarm(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    assert table.weights.shape == (64, 17)
    assert np.allclose(table.weights.sum(axis=1), 1, atol=1e-15)


def test_a_folder_with_ratios_and_metrics_is_read(tmp_path: Path) -> None:
    table = read_swarm(_write(tmp_path))
    assert table.runs == ("x", "y", "z") and table.names == ("code", "docs", "prose")
    assert table.weights.tolist() == [[0.5, 0.25, 0.25], [0.2, 0.3, 0.5], [0, 0, 1]]
    assert {name: values.tolist() for name, values in table.metrics.items()} == {
        "licences": [3.5, 3.25, 3],
        "novels": [4, 4.5, 5],
    }
    assert read_swarms(tmp_path)[1] is None


def test_regmix_s_folder_is_read_with_its_test_runs_and_plain_names() -> None:
    train, unseen = read_swarms(REGMIX)
    assert unseen is not None
    assert (len(train.runs), len(unseen.runs), len(train.names), len(train.metrics)) == (64, 32, 17, 13)
    assert train.names[0] == "the_pile_arxiv" and PILE_CC in train.metrics
    assert train.metrics[PILE_CC][0] == pytest.approx(5.169478, abs=1e-6)
    assert unseen.names == train.names and list(unseen.metrics) == list(train.metrics)


def test_runs_are_joined_by_id_and_columns_by_name(tmp_path: Path) -> None:
    straight = read_swarm(_write(tmp_path))
    shuffled = read_swarm(_write(tmp_path, metrics="novels,licences,run\n5,3,z\n4,3.5,x\n4.5,3.25,y\n"))
    assert shuffled.runs == straight.runs
    for name, values in straight.metrics.items():
        assert np.array_equal(shuffled.metrics[name], values)


def test_the_order_of_partitions_need_not_be_the_same_in_training_and_test(tmp_path: Path) -> None:
    for name, text in {
        "train_mixture_1m.csv": "index,train_a,train_b\n1,0.25,0.75\n2,0.5,0.5\n",
        "train_pile_loss_1m.csv": "index,metric/c_val_loss,metric/d_val_loss\n1,3,4\n2,3.5,4.5\n",
        "test_mixture_1m.csv": "index,train_b,train_a\n1,0.9,0.1\n",
        "test_pile_loss_1m.csv": "index,metric/d_val_loss,metric/c_val_loss\n1,8,7\n",
    }.items():
        (tmp_path / name).write_text(text)
    unseen = read_swarms(tmp_path)[1]
    assert unseen is not None
    assert unseen.names == ("a", "b") and unseen.weights.tolist() == [[0.1, 0.9]]
    assert {name: values.tolist() for name, values in unseen.metrics.items()} == {"c": [7], "d": [8]}


def test_a_prefix_that_only_some_columns_have_is_part_of_their_name(tmp_path: Path) -> None:
    table = read_swarm(_write(tmp_path, RATIOS.replace("docs", "train_timetables")))
    assert table.names == ("code", "train_timetables", "prose")


def test_other_columns_that_identify_runs_are_no_partitions(tmp_path: Path) -> None:
    ratios = "run_id,name,index,code,docs\nx,first,0,0.5,0.5\ny,second,1,0.2,0.8\n"
    table = read_swarm(_write(tmp_path, ratios, "run_id,licences\ny,3\nx,4\n"))
    assert table.names == ("code", "docs") and table.runs == ("x", "y")
    assert table.metrics["licences"].tolist() == [4, 3]


def test_rounded_weights_are_renormalised(tmp_path: Path) -> None:
    table = read_swarm(_write(tmp_path, RATIOS.replace("0.2,0.3,0.5", "0.199,0.3,0.496")))
    assert table.weights[1] == pytest.approx(np.array([0.2, 0.3015, 0.4985]), abs=1e-4)
    assert table.weights[1].sum() == pytest.approx(1, abs=1e-15)


def test_the_digest_is_of_names_and_numbers(tmp_path: Path) -> None:
    digests = {
        read_swarm(_write(tmp_path)).digest,
        read_swarm(_write(tmp_path, RATIOS.replace("docs", "wiki"))).digest,
        read_swarm(_write(tmp_path, metrics=METRICS.replace("3.25", "3.26"))).digest,
        read_swarm(_write(tmp_path, metrics=METRICS.replace("novels", "poems"))).digest,
    }
    assert len(digests) == 4
    assert read_swarm(_write(tmp_path)).digest in digests


NAMES_THAT_READERS_STRIP_OR_TAKE_FOR_IDS = {
    "plain": (("code", "docs"), ("prose", "novels")),
    "decorated": (("train_code", "train_docs"), ("metric/prose_val_loss", "metric/novels_val_loss")),
    "ids": (("run", "index"), ("name", "run_id")),
    "of another alphabet": (("dclm:adult content", "wiki, cleaned"), ('eval/"c4"', "百科")),
}


@pytest.mark.parametrize("case", NAMES_THAT_READERS_STRIP_OR_TAKE_FOR_IDS)
def test_what_is_written_is_read_back_whatever_the_names(case: str, tmp_path: Path) -> None:
    names, metrics = NAMES_THAT_READERS_STRIP_OR_TAKE_FOR_IDS[case]
    weights = np.array([[1 / 3, 2 / 3], [0.1 + 0.2, 0.7], [0.0, 1.0]])
    losses = {name: np.array([np.pi, 2.0, 1e-7]) + at for at, name in enumerate(metrics)}
    write_swarm(SwarmTable(("x", "y", "z"), names, weights, losses), tmp_path / "new")
    found = read_swarm(tmp_path / "new")
    assert (found.runs, found.names, tuple(found.metrics)) == (("x", "y", "z"), names, metrics)
    assert np.allclose(found.weights, weights, rtol=0, atol=1e-15)
    assert all(np.array_equal(found.metrics[name], losses[name]) for name in metrics)


MISTAKES = {
    "an id only in the weights": (METRICS, "z,3,5e0\n", "", "metrics.csv: run 'z' of ratios.csv is missing"),
    "an id only in the metrics": (RATIOS, "z,0,0,1\n", "", "ratios.csv: run 'z' of metrics.csv is missing"),
    "an id that comes twice": (RATIOS, "y,0.2", "x,0.2", "ratios.csv: run 'x' comes more than once"),
    "no run in common": (METRICS, METRICS, "run,licences\nu,3\n", "have no run in common: 'x' here, 'u' there"),
    "no id": (METRICS, "run,", "experiment,", "share no column that identifies runs; name it one of run_id, run"),
    "a weight that is no number": (RATIOS, "0.3", "much", "run 'y', column 'docs': expected a number, got 'much'"),
    "a weight that is missing": (RATIOS, "0.2,", ",", "run 'y', column 'code': expected a number, got ''"),
    "a negative weight": (RATIOS, "0,0,1", "-0.1,0.1,1", "run 'z', column 'code': a weight is never negative"),
    "weights that sum to less": (RATIOS, "0.5,0.25", "0.4,0.25", "run 'x': the weights must sum to 1"),
    "a short line": (METRICS, "y,3.25,4.5", "y,3.25", "metrics.csv: line 3 has 2 fields where the first line has 3"),
    "a column twice": (RATIOS, "docs", "code", "ratios.csv: column 'code' comes more than once"),
    "no columns": (METRICS, METRICS, "run\nx\ny\nz\n", "metrics.csv: there is no column but 'run'"),
    "no runs": (RATIOS, RATIOS, "run,code,docs,prose\n", "ratios.csv: expected a line of column names and a line for"),
    "a name that is all prefix": (RATIOS, "code,docs,prose", "train_,train_a,train_b", "has no name of its own"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_table_is_refused_with_its_place(mistake: str, tmp_path: Path) -> None:
    before, old, new, message = MISTAKES[mistake]
    changed = before.replace(old, new, 1)
    assert changed != before
    _write(tmp_path, changed, METRICS) if before is RATIOS else _write(tmp_path, RATIOS, changed)
    with pytest.raises(ConfigError) as caught:
        read_swarm(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone: no such folder; give one with ratios.csv"):
        read_swarm(tmp_path / "gone")
    with pytest.raises(ConfigError, match="expected ratios.csv and metrics.csv, or one train_mixture_<scale>.csv"):
        read_swarm(tmp_path)
    (_write(tmp_path) / "metrics.csv").unlink()
    with pytest.raises(ConfigError, match="metrics.csv: no such file"):
        read_swarm(tmp_path)
    (tmp_path / "metrics.csv").write_bytes(b"run,a\nx,\xff\x81\n")
    with pytest.raises(ConfigError, match="metrics.csv: line 2: not a CSV file in UTF-8 or Windows-1252: byte 0x81"):
        read_swarm(tmp_path)


def test_two_scales_of_training_runs_are_refused(tmp_path: Path) -> None:
    shutil.copytree(REGMIX, tmp_path / "both")
    shutil.copy(REGMIX / "train_mixture_1m.csv", tmp_path / "both" / "train_mixture_60m.csv")
    with pytest.raises(ConfigError, match="found 2 of the latter"):
        read_swarm(tmp_path / "both")


def test_a_partition_that_only_one_of_training_and_test_has_is_refused(tmp_path: Path) -> None:
    shutil.copytree(REGMIX, tmp_path / "other")
    path = tmp_path / "other" / "test_mixture_1m.csv"
    path.write_text(path.read_text().replace("train_the_pile_github", "train_the_pile_gitlab"))
    with pytest.raises(ConfigError, match="column 'the_pile_github' is only in one of the training and the test"):
        read_swarms(tmp_path / "other")


@pytest.fixture
def ridge() -> Ridge:
    return Ridge()


@pytest.fixture
def swarm(ridge: Ridge) -> FittedSwarm:
    return FittedSwarm(read_swarm(REGMIX), ridge, method="ridge")


def test_it_ranks_models_that_it_has_not_seen(swarm: FittedSwarm) -> None:
    unseen = read_swarms(REGMIX)[1]
    assert unseen is not None
    loss = TabulatedLoss(swarm, Goal.of({PILE_CC: 1.0}))
    values = [loss(Mixture.from_array(unseen.names, weights)).value for weights in unseen.weights]
    assert spearmanr(values, unseen.metrics[PILE_CC]).statistic > 0.95


def test_another_target_needs_no_refit(swarm: FittedSwarm, ridge: Ridge) -> None:
    mixture = Mixture.uniform(swarm.table.names)
    one, other = TabulatedLoss(swarm, Goal.of({PILE_CC: 1.0})), TabulatedLoss(swarm, Goal.of({GITHUB: 1.0}))
    alone = one(mixture), other(mixture)
    assert ridge.fits == 2
    both = TabulatedLoss(swarm, Goal.of({PILE_CC: 0.25, GITHUB: 0.75}))
    found = both(mixture)
    assert ridge.fits == 2
    assert found.value == pytest.approx(0.25 * alone[0].value + 0.75 * alone[1].value)
    errors = 0.25 * alone[0].standard_error, 0.75 * alone[1].standard_error
    assert found.standard_error == pytest.approx(np.hypot(*errors))
    assert (found.kind, found.tokens_read, found.domains) == ("tabulated", 0, {})
    assert len({one.digest, other.digest, both.digest}) == 3


def test_aggregates_and_ceilings_are_those_of_every_target(swarm: FittedSwarm) -> None:
    mixture = Mixture.uniform(swarm.table.names)
    values = {name: TabulatedLoss(swarm, Goal.of({name: 1.0}))(mixture).value for name in (PILE_CC, GITHUB)}
    assert TabulatedLoss(swarm, Goal.over([PILE_CC, GITHUB], "worst"))(mixture).value == max(values.values())
    ceiling = Goal.of(Target({PILE_CC: 1.0}, ceilings={GITHUB: values[GITHUB] - 0.5}))
    found = TabulatedLoss(swarm, ceiling)(mixture)
    assert found.violation == pytest.approx(0.5) and found.value > values[PILE_CC] + 0.5


def test_several_targets_are_predicted_side_by_side_from_the_same_fits(swarm: FittedSwarm, ridge: Ridge) -> None:
    mixture = Mixture.uniform(swarm.table.names)
    plain = {name: Target({name: 1.0}) for name in (PILE_CC, GITHUB)}
    one, other = (TabulatedLoss(swarm, Goal.of(target))(mixture).value for target in plain.values())
    found = TabulatedLoss(swarm, Goal(plain))(mixture)
    assert found.values == (one, other) and found.value == pytest.approx((one + other) / 2)
    assert ridge.fits == 2


def test_runs_are_predicted_out_of_fold_metric_by_metric(swarm: FittedSwarm) -> None:
    """Leave-one-out errors are larger than the residuals, and nearly as good a guide as runs not seen at all."""
    names = (PILE_CC, GITHUB)
    measured = np.array([swarm.table.metrics[name] for name in names])
    fitted, _ = swarm.predict(names, swarm.table.weights)
    held_out, deviations = swarm.out_of_fold(names)
    assert held_out.shape == deviations.shape == (2, 64)
    assert (np.abs(held_out - measured) >= np.abs(fitted - measured)).all()


def test_each_fit_is_announced_once(ridge: Ridge) -> None:
    told: list[str] = []
    swarm = FittedSwarm(read_swarm(REGMIX), ridge, method="ridge", watch=told.append)
    for _ in range(2):
        TabulatedLoss(swarm, Goal.of({PILE_CC: 0.5, GITHUB: 0.5}))(Mixture.uniform(swarm.table.names))
    assert told == [PILE_CC, GITHUB]


def test_a_method_or_table_of_another_kind_has_another_digest(swarm: FittedSwarm, ridge: Ridge) -> None:
    fewer = swarm.table.take(range(40))
    assert fewer.runs == swarm.table.runs[:40] and fewer.weights.shape == (40, 17)
    target = Goal.of({PILE_CC: 1.0})
    swarms = swarm, FittedSwarm(swarm.table, ridge, method="ridge 2"), FittedSwarm(fewer, ridge, method="ridge")
    assert len({TabulatedLoss(one, target).digest for one in swarms}) == 3


REFUSED: dict[str, tuple[Callable[[SwarmTable], Goal], str]] = {
    "unknown metric": (
        lambda table: Goal.of({"novels": 1.0}),
        "the target's 'novels' is no metric of the table; it ha",
    ),
    "token counts": (lambda table: Goal.over([PILE_CC], "micro"), "aggregate 'micro' needs token counts"),
    "token counts of one of several": (
        lambda table: Goal({"a": Target({PILE_CC: 1.0}), "b": Target.over([GITHUB], "micro")}),
        "aggregate 'micro' needs token counts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_target_that_the_table_cannot_serve_is_refused(case: str, swarm: FittedSwarm) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        TabulatedLoss(swarm, make(swarm.table))
