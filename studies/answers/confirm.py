"""The verb `confirm`: really train the best mixture and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objectives.evaluation import Evaluation
from objectives.losses.merged_loss import make_room
from objectives.losses.trained_loss import TrainedLoss
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.progress import say
from studies.answers.best import baseline_mixtures
from studies.answers.score import Json, rank_correlation
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import prior_mixtures

if TYPE_CHECKING:
    from pool.building.training.costs import Costs


@dataclass(frozen=True)
class Confirmed:
    """One mixture, evaluated on the test split as a merge (`proxy`) and trained."""

    name: str
    mixture: Mixture
    proxy: Evaluation
    trained: Evaluation


@dataclass(frozen=True)
class Confirmation:
    study: str
    confirmed: Sequence[Confirmed]

    @property
    def different(self) -> Sequence[Confirmed]:
        """The confirmed mixtures, equal ones once."""
        return list({one.mixture.digest: one for one in self.confirmed}.values())

    @property
    def spearman(self) -> float | None:
        """Rank correlation over different mixtures; None where undefined."""
        return rank_correlation(
            [one.proxy.value for one in self.different], [one.trained.value for one in self.different]
        )

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "confirmed": [
                {
                    "name": one.name,
                    "mixture": one.mixture.as_dict(),
                    "proxy": one.proxy.value,
                    "trained": one.trained.value,
                    "trained_standard_error": one.trained.standard_error,
                }
                for one in self.confirmed
            ],
            "spearman": self.spearman,
        }


def trained_loss(bench: Workbench) -> RememberedObjective:
    """Make the test loss of models really trained, with the study's store."""
    proxy, goal = bench.proxy, bench.goals["test"]
    trained = TrainedLoss(proxy.pool, proxy.members, goal, "test", precision=proxy.settings.precision)
    return RememberedObjective(trained, bench.database.evaluations)


def run_confirm(bench: Workbench, best: Mixture, engine: Engine = ONE_BY_ONE) -> Confirmation:
    """Train the best mixture and the baselines by the members' recipe, by an engine, or recall them."""
    pool = bench.proxy.pool
    contenders = {"best": best, **baseline_mixtures(bench)}
    trained = trained_loss(bench)
    unknown = {name: one.over(pool.names) for name, one in contenders.items() if trained.recall(one) is None}
    runs = [TruthRun(mixture, pool.config.recipe, name.replace("_", " ")) for name, mixture in unknown.items()]
    from pool.building.job import is_trained, train_runs  # loads torch

    if not all(is_trained(pool, run) for run in runs):
        say(f"confirm {bench.config.name}: {bench.proxy.merges_hold}")
        say(f"confirm {bench.config.name}: {bench.proxy.trainings_hold}")
        make_room(bench.proxy.members)
    for _ in train_runs(pool, runs, engine):
        pass
    confirmed = [
        Confirmed(name, mixture, bench.losses["test"](mixture), trained(mixture))
        for name, mixture in contenders.items()
    ]
    return Confirmation(bench.config.name, confirmed)


def confirm_costs(bench: Workbench, best: Mixture, engine: Engine = ONE_BY_ONE) -> Costs:
    """Measure the costs of `run_confirm`. A single member needs no run, unless it was trained elsewhere."""
    pool, trained = bench.proxy.pool, trained_loss(bench)
    vertices = [Mixture.vertex(pool.names, name) for name in pool.names]
    unknown = [one for one in vertices if bench.losses["search"].recall(one) is None]
    any_one = {"uniform": Mixture.uniform(pool.names), "proportional": pool.proportional(), "member": vertices[0]}
    any_one |= prior_mixtures(bench)
    baselines = any_one if unknown else baseline_mixtures(bench)
    contenders = list({one.digest: one for one in (best.over(pool.names), *baselines.values())}.values())
    merges = [one for one in contenders if bench.losses["test"].recall(one) is None]
    readings = [one for one in contenders if trained.recall(one) is None]
    from studies.running.costs import Work, costs_of  # loads torch

    work = Work(
        f"the confirmation of study {bench.config.name!r}",
        bench.goals["test"],
        "test",
        runs=[TruthRun(one, pool.config.recipe) for one in contenders],
        merges=len(unknown) + len(merges),
        readings=len(readings),
        remembered={"merges": len(vertices) + len(contenders) - len(unknown) - len(merges)},
    )
    return costs_of(bench, work, engine)
