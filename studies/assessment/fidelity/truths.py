"""Ground truths of a study: mixtures really trained, here or elsewhere, and read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from objectives.agreement.statistics import NoiseFloor
from objectives.held_out import Floats
from objectives.losses.merged_loss import make_room
from objectives.losses.trained_loss import TrainedLoss
from objectives.scoring.window_table import WindowTable
from objectives.stand_ins.swarm_table import SwarmTable, read_swarm, say_notes
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.recipe import Recipe
from pool.corpus.corpus import SPLITS, Split
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import ConfigError
from pool.files.names import as_typed
from pool.files.records import MANIFEST, read_record
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.parts.store import Pool
from pool.progress import say, track
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.database.evaluations import Cost

REPEATED = 4
"""The first mixtures of a design are trained again in other orders of the data."""


@dataclass(frozen=True, eq=False)
class Truths:
    """N trained mixtures with readings, and noise where measured; `ignored` metrics are no held-out domain."""

    mixtures: Mapping[str, Mixture]
    readings: Mapping[Split, Readings]
    noise: Mapping[Split, Mapping[str, NoiseFloor]]
    source: str
    ignored: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class TruthPlan:
    """How truths are trained, with `repeats` of some in other data orders.

    as_long_as_members: as long as the members together, like the union of their data in Na et al. 2024
    (arXiv 2410.15661); else as long as one member
    """

    repeats: int = 0
    as_long_as_members: bool = False

    def recipe(self, pool: Pool, mixture: Mixture, order: int = 0) -> Recipe:
        recipe = pool.config.recipe
        members = len(pool.unit_mixture(mixture).support) if self.as_long_as_members else 1
        order_seed = (recipe.order_seed + order) % 2**32
        return recipe.model_copy(update={"order_seed": order_seed, "tokens": recipe.tokens * members})

    @property
    def orders(self) -> range:
        return range(1 + self.repeats)

    def runs(self, pool: Pool, plan: Mapping[str, Mixture], order: int = 0) -> list[TruthRun]:
        """List the runs of a plan; in another order, of its first mixtures."""
        named = list(plan.items())[:REPEATED] if order else plan.items()
        again = f" in order {order + 1} of the data" if order else ""
        return [TruthRun(one, self.recipe(pool, one, order), f"{name}{again}") for name, one in named]

    def all_runs(self, pool: Pool, plan: Mapping[str, Mixture]) -> list[TruthRun]:
        """List the runs of a plan, and then those of the first mixtures in other orders."""
        return [run for order in self.orders for run in self.runs(pool, plan, order)]

    @property
    def source(self) -> str:
        longer = ", each for as long as its members together" if self.as_long_as_members else ""
        return f"trained here, by the members' recipe{longer}"


def train_truths(
    instruments: Instruments, plan: Mapping[str, Mixture], training: TruthPlan, engine: Engine = ONE_BY_ONE
) -> Truths:
    """Train the mixtures of a plan, or recall them, and read them.

    The first `REPEATED` are trained again for the noise; runs are kept at once. Raises `PoolError` and `EngineError`.
    """

    runs = training.runs(instruments.pool, plan)
    repeated = [runs[:REPEATED], *(training.runs(instruments.pool, plan, order) for order in training.orders[1:])]
    _train_and_read(instruments, training.all_runs(instruments.pool, plan), engine)
    readings = {split: _readings(instruments, split, runs) for split in SPLITS}
    noise = {split: _noise(instruments, split, repeated) for split in SPLITS}
    return Truths(plan, readings, noise, training.source)


def known_truths(instruments: Instruments) -> Truths:
    """Collect mixtures of two partitions or more with remembered truths on both splits."""
    recipe, names = instruments.pool.config.recipe, instruments.pool.names
    digests = {split: instruments.truth(split, recipe).digest for split in SPLITS}
    found = {split: [one.mixture for one in instruments.store.all_of(digests[split])] for split in SPLITS}
    both = {mixture.digest for mixture in found["test"]}
    mixtures = [one.over(names) for one in found["search"] if one.digest in both and len(one.support) > 1]
    runs = [TruthRun(mixture, recipe) for mixture in mixtures]
    readings = {split: _readings(instruments, split, runs) for split in SPLITS} if mixtures else {}
    named = {mixture.digest: mixture for mixture in mixtures}
    return Truths(named, readings, {split: {} for split in SPLITS}, TruthPlan().source)


def _train_and_read(instruments: Instruments, runs: list[TruthRun], engine: Engine) -> None:
    from pool.building.job import is_trained, train_runs  # loads torch

    def before_training() -> None:
        if not all(is_trained(instruments.pool, run) for run in runs):
            make_room(instruments.proxy.members)

    if not all(is_trained(instruments.pool, run) for run in runs):
        say(f"ground truths: {instruments.proxy.merges_hold}")
        say(f"ground truths: {instruments.proxy.trainings_hold}")
    before_training()
    with track("ground truths", len(runs), shown=engine.elsewhere) as show:
        for done, run in enumerate(train_runs(instruments.pool, runs, engine), start=1):
            for split in SPLITS:
                instruments.truth(split, run.recipe)(run.mixture)
            before_training()
            show(done, "")


def _readings(instruments: Instruments, split: Split, runs: list[TruthRun]) -> Readings:
    return instruments.read(split, [instruments.truth(split, run.recipe)(run.mixture) for run in runs])


def _noise(instruments: Instruments, split: Split, repeated: list[list[TruthRun]]) -> dict[str, NoiseFloor]:
    """Measure the noise; the lists differ in data order."""
    if len(repeated) < 2:
        return {}
    by_order = [_readings(instruments, split, runs) for runs in repeated]
    floors = {
        name: NoiseFloor.of(list(np.array([one[name] for one in by_order]).T), crossed=True) for name in by_order[0]
    }
    return {name: floor for name, floor in floors.items() if floor}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model that a study has read, with the costs of its scores; `confirmed` where `confirm` did."""

    manifest: CheckpointManifest
    scores: Sequence[Cost]
    confirmed: bool


def trained_models(pool: Pool) -> list[CheckpointManifest]:
    """Read the records of the models really trained on mixtures, by any study; members are none of them."""
    paths = sorted(pool.folder.glob(f"trained/[!.]*/{MANIFEST}"))
    again = "and the command that trained it"
    return [read_record(path, CheckpointManifest, f"run `rm -r {as_typed(path.parent)}`, {again}") for path in paths]


def read_models(instruments: Instruments, models: Iterable[CheckpointManifest]) -> list[TrainedModel]:
    """List those of some models that verbs of a study have read. Nothing is loaded."""
    pool, proxy, found = instruments.pool, instruments.proxy, list[TrainedModel]()
    precision, goal = proxy.settings.precision, instruments.goals["test"]
    for model in models:
        if model.recipe is None or model.imported:
            continue
        confirm = TrainedLoss(pool, proxy.members, goal, "test", precision=precision, recipe=model.recipe)
        truths = [instruments.truth(split, model.recipe).digest for split in SPLITS]
        mixture = Mixture.of(model.mixture).digest
        by_verb = [_costs_by_units(instruments, digest).get(mixture) for digest in (confirm.digest, *truths)]
        if scores := [_without_training(one, model) for one in by_verb if one]:
            found.append(TrainedModel(model, scores, confirmed=by_verb[0] is not None))
    return found


def _costs_by_units(instruments: Instruments, digest: str) -> dict[str, Cost]:
    """Return the costs of an objective's evaluations by their mixture over units, as models are trained on it."""
    pool, store = instruments.pool, instruments.store
    costs = store.costs(digest)
    if not pool.groups:
        return costs
    return {pool.unit_mixture(one.mixture).digest: costs[one.mixture.digest] for one in store.all_of(digest)}


def _without_training(score: Cost, model: CheckpointManifest) -> Cost:
    """Take the training out of the time of a score that began with it: the model's own record has that time."""
    return replace(score, seconds=score.seconds - (model.seconds if score.seconds > model.seconds else 0.0))


def import_truths(instruments: Instruments, path: Path, *, normalise: bool = False) -> Truths:
    """Read truths from a folder with ratios.csv and metrics.csv, or from its ratios.csv.

    Metrics are losses in the study's measure, for both splits. Runs of one mixture give its mean and the noise. Raises
    `ConfigError` for the partition, domain or run at fault.
    """
    table = read_swarm(path, path.with_name("metrics.csv") if path.is_file() else None, normalise=normalise)
    names, domains = instruments.pool.names, instruments.target.domains
    _check(table, names, instruments.goals["search"].domains, path)
    say_notes(table)
    groups = _groups(table, names)
    if not groups:
        raise ConfigError(f"{path}: every run is of a single partition, where the merge is the member; add mixtures")
    readings: dict[Split, Readings] = {}
    noise: dict[Split, dict[str, NoiseFloor]] = {}
    for split in SPLITS:  # targets relative to the seed differ between splits
        by_name = {VALUE: _values(instruments, split, table.metrics)}
        by_name |= {name: table.metrics[name] for name in domains if name in table.metrics}
        grouped = {name: [values[rows] for rows in groups] for name, values in by_name.items()}
        readings[split] = {name: np.array([group.mean() for group in some]) for name, some in grouped.items()}
        floors = {name: NoiseFloor.of(some) for name, some in grouped.items()}
        noise[split] = {name: floor for name, floor in floors.items() if floor}
    mixtures = {
        table.runs[rows[0]]: Mixture.from_array(table.names, table.weights[rows[0]]).over(names) for rows in groups
    }
    return Truths(mixtures, readings, noise, str(path), tuple(name for name in table.metrics if name not in domains))


def _check(table: SwarmTable, names: tuple[str, ...], domains: tuple[str, ...], path: Path) -> None:
    unknown = [name for name in table.names if name not in names]
    if unknown:
        raise ConfigError(
            f"{path}: {unknown[0]!r} is no partition of the pool, which has {', '.join(names)}; truths are matched "
            "by name"
        )
    table.check_metrics(domains)
    missing = [name for name in domains if name not in table.metrics]
    if missing:
        raise ConfigError(
            f"{path}: there is no metric for the study's held-out domain {missing[0]!r}; the swarm has "
            f"{', '.join(table.metrics)}"
        )


def _groups(table: SwarmTable, names: tuple[str, ...]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for row, weights in enumerate(table.weights):
        mixture = Mixture.from_array(table.names, weights)
        if len(mixture.support) > 1:
            groups.setdefault(mixture.over(names).digest, []).append(row)
    return list(groups.values())


def _values(instruments: Instruments, split: Split, metrics: Mapping[str, Floats]) -> Floats:
    """Return the study's value of N runs (N,); domains are sized as the pool's held-out text is."""
    goal = instruments.goals[split]
    table = WindowTable.of(instruments.pool.corpus.held_out[split], goal.domains)
    sizes = goal.sizes(table.losses(np.zeros(len(table.domain))))
    rows = np.array([metrics[name] for name in goal.domains]).T
    return np.array([goal.value_of(row, sizes) for row in rows])
