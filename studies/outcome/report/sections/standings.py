"""The best mixture beside the baselines, with intervals of their held-out losses, and their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from objectives.evaluation import Evaluation, Objective
from objectives.held_out import CONFIDENT
from objectives.scoring.paired import PairedDifference, paired_difference
from pool.corpus.corpus import SPLITS, Split
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.answers.best import baseline_mixtures
from studies.answers.confirm import trained_loss
from studies.answers.goal_predictor import ScalesAnswer
from studies.answers.score import Score, score_of
from studies.answers.swarm_best import SwarmBest
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.outcome.report.facts.section import Cell, Table, shown

BEST, SEED = "best mixture", "seed"
DOWNSTREAM, PREDICTED = "downstream error", "predicted, 90 %"
MERGED: Mapping[Split, str] = {split: f"{split} split, merged" for split in SPLITS}
TRAINED = "test split, really trained"
_CONTENDERS = 5
"""The best mixture, three baselines and the seed."""


@dataclass(frozen=True)
class Figures:
    """A value with its 95 % interval (on a swarm 90 %), and its difference from the best mixture on the same text."""

    value: float
    low: float
    high: float
    paired: PairedDifference | None = None


Standings = Mapping[str, Mapping[str, Figures]]
"""By the measured quantity, and then by contender."""


def of_pool(bench: Workbench, best: Mixture) -> Standings:
    """Recall the losses of the best mixture and the baselines, as far as they were evaluated."""
    contenders = {BEST: best, **_baselines(bench)}
    sources: Mapping[str, tuple[Objective, Split]] = {
        **{what: (bench.losses[split], split) for split, what in MERGED.items()},
        TRAINED: (trained_loss(bench), "test"),
    }
    found = {what: _recalled(bench, contenders, *source) for what, source in sources.items()}
    if bench.config.downstream:
        found = {DOWNSTREAM: _errors(bench, contenders), **found}
    return {what: figures for what, figures in found.items() if figures}


def of_table(answer: SwarmBest) -> Standings:
    """Give the predictions of the best mixture and the baselines from the swarm."""
    standings = {BEST: answer.best, "uniform": answer.baselines["uniform"]}
    standings[f"best run ({answer.best_run})"] = answer.baselines["best_run"]
    intervals = {name: one.value.predicted for name, one in standings.items()}
    predicted = {name: Figures(one.value, one.low, one.high) for name, one in intervals.items()}
    measured = {
        name: Figures(one.value.measured, math.nan, math.nan)
        for name, one in standings.items()
        if one.value.measured is not None
    }
    return {PREDICTED: predicted, **({"measured": measured} if measured else {})}


def of_scales(found: ScalesAnswer) -> list[Table]:
    """Make the tables of what every scale tells of the target."""
    runs = f"the {found.runs} runs at {found.target}, each predicted from the others and from one scale"
    judged = [(name, one.runs, one.out_of_fold) for name, one in found.scales.items()]
    figures: list[list[Cell]] = [[name, count, one.spearman, one.rmse, one.inside] for name, count, one in judged]
    agreements: list[list[Cell]] = [
        [" and ".join(one.scales), one.shared, *(getattr(one.spearman, end) for end in ("value", "low", "high"))]
        for one in found.agreements
    ]
    columns = ("scale", "runs", "Spearman", "RMSE", "inside the 90 % interval")
    return [
        Table("scales", f"What the scales tell: {runs}. {found.source} predicts.", columns, figures),
        Table(
            "agreement_of_scales",
            "Rank correlation of scales over the mixtures trained at both, with 95 % intervals from eight on",
            ("scales", "mixtures", "Spearman", "low", "high"),
            agreements,
        ),
    ]


def known_baselines(bench: Workbench) -> dict[str, float]:
    """Return the remembered values of the baselines by name, in the study's own objective."""
    return {name: one.value for name, one in _known(_baselines(bench), bench.objective).items()}


def _baselines(bench: Workbench) -> dict[str, Mixture]:
    names = bench.proxy.pool.names
    try:
        return baseline_mixtures(bench)
    except NotRememberedError:  # the best member is known once all of them were scored
        return {"uniform": Mixture.uniform(names), "proportional": bench.proxy.pool.proportional()}


def _recalled(
    bench: Workbench, contenders: Mapping[str, Mixture], objective: Objective, split: Split
) -> dict[str, Figures]:
    scores = {name: score_of(bench, one, split) for name, one in _known(contenders, objective).items()}
    best = scores.get(BEST)
    if best and (seed := _seed(bench, split)):
        scores[SEED] = seed
    return {name: _figures(score, best if name != BEST else None) for name, score in scores.items()}


def _seed(bench: Workbench, split: Split) -> Score | None:
    table = bench.table(split)
    nats = bench.proxy.known_seed_nats(table, split, bench.database.evaluations)
    return None if nats is None else Score(bench.goals[split], table, nats)


def _errors(bench: Workbench, contenders: Mapping[str, Mixture]) -> dict[str, Figures]:
    known = _known(contenders, bench.objective)
    return {name: _around(one.value, one.standard_error) for name, one in known.items()}


def _known(contenders: Mapping[str, Mixture], objective: Objective) -> dict[str, Evaluation]:
    assert isinstance(objective, RememberedObjective)
    found = {name: objective.recall(mixture) for name, mixture in contenders.items()}
    return {name: one for name, one in found.items() if one is not None}


def _figures(score: Score, best: Score | None) -> Figures:
    paired = paired_difference(score.goal, score.table, score.nats, best.nats) if best else None
    return _around(score.value, score.goal.standard_error(score.domains), paired)


def _around(value: float, error: float, paired: PairedDifference | None = None) -> Figures:
    half = CONFIDENT * error if math.isfinite(error) else math.nan
    return Figures(value, value - half, value + half, paired)


def standings_table(unit: str, standings: Standings) -> Table:
    rows: list[list[Cell]] = [
        [shown(name), str(one.paired or ""), one.value, one.low, one.high, what if name != SEED else _as_it_is(what)]
        for what, contenders in standings.items()
        for name, one in contenders.items()
    ]
    columns = ("mixture", "behind the best mixture", unit, "low", "high", "measured on")
    return Table("standings", "Best mixture and baselines, each with its own interval", columns, rows)


def _as_it_is(what: str) -> str:
    return f"{what.partition(',')[0]}, as it is" + (" (behind the best, trained)" if what == TRAINED else "")


def standings_notes(standings: Standings, file: str) -> list[str]:
    """Name the commands that complete the standings of a pool."""
    said = []
    if any(len(standings.get(what, {})) < _CONTENDERS for what in MERGED.values()):
        said.append(f"Not everything was scored on both splits yet. Run: mixscout best {file}")
    if BEST not in standings.get(TRAINED, {}):
        said.append(f"The best mixture was not confirmed yet. Run: mixscout confirm {file}")
    return said
