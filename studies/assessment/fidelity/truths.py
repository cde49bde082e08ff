"""Ground truths of a study: mixtures really trained here, and what they came to on both splits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from objectives.agreement.noise import NoiseFloor
from pool.building.trained import TruthRun, train_runs
from pool.config.recipe import Recipe
from pool.corpus.corpus import SPLITS, Split
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import track
from studies.assessment.fidelity.readings import Instruments, Readings

REPEATED = 4
"""Mixtures that are trained again with other orders of the data, the first of the design."""


@dataclass(frozen=True, eq=False)
class Truths:
    """N trained mixtures by name, their readings and noise by split, and where they come from, in words.

    `noise` has the names of the readings for which it was measured. `ignored` names what a table had beside domains.
    """

    mixtures: Mapping[str, Mixture]
    readings: Mapping[Split, Readings]
    noise: Mapping[Split, Mapping[str, NoiseFloor]]
    source: str
    ignored: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class TruthPlan:
    """How truths are trained: repeats of some in other orders of the data, and how long.

    `as_long_as_members`: for the members' tokens times the members that a mixture uses, as the union of their data is
    trained on in Na et al. 2024 (arXiv 2410.15661); else all for the tokens of one member.
    """

    repeats: int = 0
    as_long_as_members: bool = False

    def recipe(self, pool: Pool, mixture: Mixture, order: int = 0) -> Recipe:
        """Return the recipe of one run."""
        recipe = reordered(pool.config.recipe, order)
        members = len(pool.unit_mixture(mixture).support) if self.as_long_as_members else 1
        return recipe.model_copy(update={"tokens": recipe.tokens * members})

    @property
    def source(self) -> str:
        """Say by which recipe, in words."""
        longer = ", each for as long as its members together" if self.as_long_as_members else ""
        return f"trained here, by the members' recipe{longer}"


def train_truths(
    instruments: Instruments, plan: Mapping[str, Mixture], training: TruthPlan, engine: Engine = ONE_BY_ONE
) -> Truths:
    """Train the mixtures of a plan, by an engine where that was not done before, and read them.

    The first `REPEATED` are trained again, each time in another order, to measure the noise. What is
    trained and read is kept at once, so a killed command goes on. Raises `PoolError` and `EngineError`.
    """
    pool = instruments.bench.pool
    orders = range(1 + training.repeats)
    again = list(plan.values())[:REPEATED]
    runs = [TruthRun(mixture, training.recipe(pool, mixture)) for mixture in plan.values()]
    runs += [TruthRun(mixture, training.recipe(pool, mixture, order)) for order in orders[1:] for mixture in again]
    _train_and_read(instruments, runs, engine)
    readings = {split: _readings(instruments, split, runs[: len(plan)]) for split in SPLITS}
    repeated = [[TruthRun(one, training.recipe(pool, one, order)) for one in again] for order in orders]
    noise = {split: _noise(instruments, split, repeated) for split in SPLITS}
    return Truths(plan, readings, noise, training.source)


def known_truths(instruments: Instruments) -> Truths:
    """Collect every mixture of two partitions or more whose truth is remembered on both splits, trained for whatever
    reason.
    """
    recipe = instruments.bench.pool.config.recipe
    store = instruments.bench.database.evaluations
    found = [[one.mixture for one in store.all_of(instruments.truth(split, recipe).digest)] for split in SPLITS]
    both = {mixture.digest for mixture in found[1]}
    names = instruments.bench.pool.names
    mixtures = [one.over(names) for one in found[0] if one.digest in both and len(one.support) > 1]
    runs = [TruthRun(mixture, recipe) for mixture in mixtures]
    readings = {split: _readings(instruments, split, runs) for split in SPLITS} if mixtures else {}
    named = {mixture.digest: mixture for mixture in mixtures}
    return Truths(named, readings, {split: {} for split in SPLITS}, TruthPlan().source)


def reordered(recipe: Recipe, number: int) -> Recipe:
    """Return the recipe with another order of the data, the `number`-th one."""
    return recipe.model_copy(update={"order_seed": (recipe.order_seed + number) % 2**32})


def _train_and_read(instruments: Instruments, runs: list[TruthRun], engine: Engine) -> None:
    with track("ground truths", len(runs), shown=engine.elsewhere) as show:
        for done, run in enumerate(train_runs(instruments.bench.pool, runs, engine), start=1):
            for split in SPLITS:
                instruments.truth(split, run.recipe)(run.mixture)
            show(done, "")


def _readings(instruments: Instruments, split: Split, runs: list[TruthRun]) -> Readings:
    return instruments.read(split, [instruments.truth(split, run.recipe)(run.mixture) for run in runs])


def _noise(instruments: Instruments, split: Split, repeated: list[list[TruthRun]]) -> dict[str, NoiseFloor]:
    """Measure the noise on runs that differ in the order of the data alone, a list an order."""
    if len(repeated) < 2:
        return {}
    by_order = [_readings(instruments, split, runs) for runs in repeated]
    floors = {
        name: NoiseFloor.of(list(np.array([one[name] for one in by_order]).T), crossed=True) for name in by_order[0]
    }
    return {name: floor for name, floor in floors.items() if floor}
