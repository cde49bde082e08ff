"""The costs of verbs on an opened study, before they are paid: merges timed as they are made, trainings as they step.

A search is advanced for a few merges in a private copy of its study. Other verbs count their merges and their runs.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self

import numpy as np
import optuna

from objectives.evaluation import FORWARDS_PER_GRADIENT
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.building.job import SEED_TEXT_WINDOWS, is_trained
from pool.building.training.costs import Costs, Seconds, Setting, TrainingPace, measure_training, pace_key
from pool.checkpoints.checkpoint import load_model
from pool.corpus.corpus import Split
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.engines.resources import watched_memory
from pool.files.whole import bytes_of_folder
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.parts.store import Pool
from pool.progress import say
from search.loop import Search, advance
from search.trials import FINISHED, START, count_trials
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import OpenedStudy
from studies.running.plan import planned_search
from studies.running.run import DatabaseCrew

MOST_MERGES, LEAST_MERGES = 12, 4
LONGEST_SECONDS = 6.0
"""A calibration makes so many merges, or stops after so long once a few are made."""
OF_A_START = 3
"""Mixtures of the start design that a calibration evaluates; the first warms up."""
SEED_LOOKS = 2 * SEED_TEXT_WINDOWS
"""Windows of the seed's text that are scored before and after a run."""
DATABASE_BYTES, ROW_BYTES, PARTITION_BYTES = 130_000, 4_000, 250
"""About the bytes of an empty database, and of a trial with its evaluation: in any case, and for each partition."""
NOTE = "proposals take longer the more trials there are; stop rules may end the search sooner"


def search_costs(
    bench: OpenedStudy, merges: int, *, places: int = 1, repeats: int = 0, start_known: bool = False
) -> Costs:
    """Measure the costs of advancing a study, opened privately, to `merges` with `places` workers.

    `repeats` further searches propose as many mixtures after the same start design, which may be known by then. Raises
    a `MixscoutError` for whatever the search refuses.
    """
    name = bench.config.name
    with watched_memory() as peak:
        plan = _Plan.of(bench, merges)
        say(f"measuring a few merges of study {name!r}")
        once, at_start, proposed = _advanced(bench, plan)
        table = bench.table("search") if isinstance(bench, Workbench) else None
    known = len(plan.waiting) if start_known else plan.known
    proposals = (plan.left - len(plan.waiting)) * (1 + repeats)
    new = len(plan.waiting) - known + proposals
    side_by_side = max(1, min(places, plan.left))
    parts = {
        "first merge, more than the others": once,
        "start design": at_start * ((len(plan.waiting) - known) / side_by_side),
        "search": proposed * (proposals / side_by_side),
    }
    return Costs(
        f"the search of study {name!r} to {merges} merges",
        merges=new,
        scored_tokens=int(table.tokens.sum()) * new if table else 0,
        forwards=plan.search.forwards_per_merge * new if table else 0,
        parts={name: part for name, part in parts.items() if part.likely},
        memory_bytes=peak.bytes,
        more_memory_bytes=peak.bytes * places if places > 1 else 0,
        disk_bytes=(len(plan.waiting) + proposals) * _row_bytes(bench, table) + DATABASE_BYTES * plan.in_new_database,
        remembered={"merges of the study": plan.done, "evaluations of the start design": known},
        place=bench.root,
        notes=(NOTE,),
    )


def together(what: str, parts: Mapping[str, Costs]) -> Costs:
    """Add up the costs of searches done one after the other, by name."""
    some = list(parts.values())
    remembered = Counter[str]()
    for one in some:
        remembered.update(one.remembered)
    sums = {
        key: sum(getattr(one, key) for one in some) for key in ("merges", "scored_tokens", "forwards", "disk_bytes")
    }
    return Costs(
        what,
        **sums,
        parts={name: one.seconds for name, one in parts.items()},
        memory_bytes=max(one.memory_bytes for one in some),
        remembered=remembered,
        place=some[0].place,
        notes=some[0].notes,
    )


@dataclass(frozen=True)
class _Plan:
    """What a search has to do.

    done: merges of the study so far; `left` are those to its budget
    waiting: start mixtures that the study has not evaluated; `known` of them are remembered from elsewhere
    """

    search: Search
    done: int
    left: int
    waiting: tuple[str, ...]
    known: int
    in_new_database: bool

    @classmethod
    def of(cls, bench: OpenedStudy, merges: int) -> Self:
        search, there, done = planned_search(bench), set[object](), 0
        names = optuna.get_all_study_names(bench.database.optuna)
        if bench.config.name in names:
            study = bench.known_study()
            there = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False, states=FINISHED)}
            done = count_trials(study).merges
        left = max(0, merges - done)
        waiting = tuple(name for name in search.start if name not in there)[:left]
        known = sum(bench.objective.recall(search.start[name]) is not None for name in waiting)
        return cls(search, done, left, waiting, known, not names)


def _advanced(bench: OpenedStudy, plan: _Plan) -> tuple[Seconds, Seconds, Seconds]:
    """Advance a private study by a few merges: what the first takes more, and each of the start and of the search."""
    if not plan.left:
        return Seconds(), Seconds(), Seconds()
    first = {name: plan.search.start[name] for name in plan.waiting[:OF_A_START]}
    times = _timed_merges(bench, replace(plan.search, start=first), min(MOST_MERGES, plan.left))
    warm, of_start = times[1:] or times, max(0, len(first) - 1)
    starting, proposed = warm[:of_start] or warm, warm[of_start:] or warm
    once = Seconds.exactly(max(0.0, times[0] - statistics.median(warm)))
    return once, Seconds.of(starting), Seconds(statistics.fmean(proposed), min(proposed), max(proposed))


def _timed_merges(bench: OpenedStudy, search: Search, most: int) -> list[float]:
    study = bench.new_or_known_study()
    counts, ended = count_trials(study), [time.perf_counter()]
    with bench.database.optuna.worked_with():
        while len(ended) <= most:
            before, counts = counts, advance(study, search, counts.merges + 1, crew=DatabaseCrew(bench.database))
            ended.append(time.perf_counter())
            enough = len(ended) > OF_A_START + LEAST_MERGES and ended[-1] - ended[0] > LONGEST_SECONDS
            if enough or counts.merges == before.merges:  # a stop rule ends the search
                break
    return [later - earlier for earlier, later in pairwise(ended)]


def _row_bytes(bench: OpenedStudy, table: WindowTable | None) -> int:
    windows = 8 * len(table.domain) if table else 0
    return ROW_BYTES + PARTITION_BYTES * len(bench.space.names) + windows


@dataclass(frozen=True)
class Work:
    """The work of a verb on a study on a pool.

    runs: models to train, those there already included
    merges: merges to score on a goal's domains of a split; `gradients` are those with their gradient
    readings: scores of trained models
    remembered: what needs no work, by name
    """

    what: str
    goal: Goal
    split: Split
    runs: Sequence[TruthRun] = ()
    merges: int = 0
    gradients: int = 0
    readings: int = 0
    notes: tuple[str, ...] = ()
    remembered: Mapping[str, int] = field(default_factory=dict)


def costs_of(bench: Workbench, work: Work, engine: Engine = ONE_BY_ONE) -> Costs:
    """Measure what a verb's work costs: a few merges on its windows, and a few steps of each kind of run."""
    pool, context = bench.proxy.pool, bench.proxy.pool.config.context
    missing = [run for run in dict.fromkeys(work.runs) if not is_trained(pool, run)]
    with watched_memory() as peak:
        merge, gradient, tokens = _measured_merge(bench, work)
        setting = Setting.of(engine, len(missing))
        paces = _measured_runs(pool, missing, setting)
    times = [paces[pace_key(run.recipe, setting)].run(run.recipe, context, forwards=SEED_LOOKS) for run in missing]
    first = Seconds.exactly(max((pace.first for pace in paces.values()), default=0.0))
    parts = {
        "training": setting.all(times) + first,
        "merges": merge * (work.merges + work.readings) + gradient * work.gradients,
    }
    model_bytes = max((pace.model_bytes for pace in paces.values()), default=0)
    model_bytes += bytes_of_folder(pool.folder / "tokenizer")
    count = work.merges + work.gradients
    return Costs(
        work.what,
        runs=len(missing),
        merges=count,
        train_tokens=sum(run.recipe.windows(context) * context for run in missing),
        scored_tokens=tokens * (count + work.readings),
        forwards=work.merges + work.readings + FORWARDS_PER_GRADIENT * work.gradients,
        parts={name: part for name, part in parts.items() if part.likely},
        memory_bytes=peak.bytes,
        more_memory_bytes=peak.bytes * setting.places if setting.places > 1 else 0,
        disk_bytes=len(missing) * model_bytes + count * _row_bytes(bench, None),
        passing_bytes=max((pace.passing_bytes for pace in paces.values()), default=0) * setting.places,
        remembered={"models": len(dict.fromkeys(work.runs)) - len(missing), **work.remembered},
        place=pool.folder,
        notes=work.notes,
    )


def _measured_merge(bench: Workbench, work: Work) -> tuple[Seconds, Seconds, int]:
    """Return the seconds of a merge with its scores, of one with its gradient, and the tokens of each."""
    loss, names = bench.proxy.loss(work.goal, work.split), bench.proxy.stacked.names
    if not work.merges + work.readings + work.gradients:
        return Seconds(), Seconds(), 0
    say("measuring a few merges")
    draw = np.random.default_rng(0)
    mixtures = [Mixture.from_array(names, draw.dirichlet(np.ones(len(names)))) for _ in range(LEAST_MERGES + 1)]
    merge = Seconds.of([loss(mixture).seconds for mixture in mixtures][1:])
    steep = Seconds()
    if work.gradients:
        steep = Seconds.of([loss.gradient(mixture).seconds for mixture in mixtures[:3]][1:])
    return merge, steep, loss.scorer.tokens


def _measured_runs(pool: Pool, runs: Sequence[TruthRun], setting: Setting) -> dict[tuple[object, ...], TrainingPace]:
    paces = dict[tuple[object, ...], TrainingPace]()
    for run in runs:
        if (key := pace_key(run.recipe, setting)) not in paces:
            say("measuring a few steps of training")
            model, what = load_model(pool.folder / "seed"), f"a training run of pool {pool.config.name!r}"
            paces[key] = measure_training(model, run.recipe, pool.config.context, setting, what=what)
    return paces
