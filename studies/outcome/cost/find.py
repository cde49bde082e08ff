"""The verb `cost`: what a study has cost, part by part, and what other ways to its answer would have cost.

What is recorded of trainings and scores is one side, and the ledgers of commands are the other: what these commands
took beyond the records made within them is a part of its own. A record belongs to a command by its end in time.

Other ways: RegMix trains 512 models of 1M parameters on 1B tokens (Liu et al. 2024, arXiv 2407.01492). Olmix's swarms
are models of 30M parameters on 3B tokens, their number linear in the partitions (Chen et al. 2026, arXiv 2602.12237).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

import optuna
from optuna.trial import FrozenTrial, TrialState

from pool.checkpoints.manifest import WEIGHTS, count_parameters
from pool.errors import NotRememberedError, StudyError
from pool.files.records import read_record
from pool.parts.commands import Command, kept_in_pool
from pool.parts.layout import POOL_RECORD, SEED
from pool.parts.store import PoolManifest
from search.trials import CACHED, IMPORTED, finished_trials
from studies.database.commands import kept_in_study
from studies.opened.on_pool import Workbench
from studies.opened.on_table import SwarmBench
from studies.opened.opened_study import OpenedStudy
from studies.opened.opening import open_privately, open_to_read
from studies.outcome.cost.bill import Bill, Part, Runs, Way
from studies.outcome.cost.recorded import TRAINED, Items, items_on_pool, searched, sum_of
from studies.study_file.study_file import StudyFile

REST = "rest of commands"
"""The start of Python, the loading of libraries, the preparation of text, pictures, and what no record holds."""
REGMIX_RUNS = 512
OUTSIDE = "Outside the bill: verbs that only read, such as report, and commands that were killed."
NO_LEDGER = (
    "No command of this study or its pool is in a ledger: Python's start, the preparation of text, and verbs that "
    "remember no merges are outside the bill."
)


PUBLISHED = (
    Way("RegMix's swarm, as published", REGMIX_RUNS, TRAINED * 1e6 * 1e9 * REGMIX_RUNS),
    Way("one run of Olmix's swarm, as published", 1, TRAINED * 30e6 * 3e9),
)


def run_cost(config: StudyFile, *, swarm: int = REGMIX_RUNS, price_per_hour: float | None = None) -> Bill:
    """Find the bill of a study file, searched or not; nothing is written. Raises a `MixscoutError`."""
    with ExitStack() as stack:
        try:
            bench = stack.enter_context(open_to_read(config))
        except (StudyError, NotRememberedError):  # not begun
            bench = stack.enter_context(open_privately(config))
        return find_bill(bench, swarm=swarm, price_per_hour=price_per_hour)


def find_bill(bench: OpenedStudy, *, swarm: int = REGMIX_RUNS, price_per_hour: float | None = None) -> Bill:
    """Add up the records of a study, and set the sum beside a swarm of so many models, and other ways."""
    begun = bench.config.name in optuna.get_all_study_names(bench.database.optuna)
    trials = finished_trials(bench.known_study()) if begun else []
    own = [trial for trial in trials if IMPORTED not in trial.user_attrs]
    size, items, notes = _on_pool(bench, own) if isinstance(bench, Workbench) else _on_table(bench, own)
    commands, parts = _commands(bench), {name: sum_of(some) for name, some in items.items()}
    if commands:
        parts[REST] = _rest(commands, items)
    notes += [*_notes(parts, own, taken_over=len(trials) - len(own)), *_notes_of_ledgers(commands, items)]
    decisions, runs = sum(trial.state is TrialState.COMPLETE for trial in own), _by_verb(commands)
    bill = Bill(bench.config.name, size, parts, runs, decisions, [], notes, price_per_hour=price_per_hour)
    ours = Way("this study", bill.total.trainings, bill.total.flops or None, bill.billed_seconds)
    return replace(bill, ways=[ours, *_other_ways(bench, bill, swarm)])


def _on_pool(bench: Workbench, own: Sequence[FrozenTrial]) -> tuple[int | None, Items, list[str]]:
    """Return the parameters of a model, all items, and notes on the pool."""
    folder = bench.proxy.pool.folder
    manifest = read_record(folder / POOL_RECORD, PoolManifest)  # a view at an age knows of fewer tokens
    size = count_parameters(folder / SEED / WEIGHTS)
    given = {"the seed": manifest.seed, **{f"member {name!r}": one for name, one in manifest.members.items()}}
    notes = [f"{name} was trained elsewhere, and costs nothing here." for name, one in given.items() if one.imported]
    notes.append("Seed, members and the commands of a pool serve every study on it; each bills them in full.")
    return size, items_on_pool(bench, manifest, own, size), notes


def _on_table(bench: OpenedStudy, own: Sequence[FrozenTrial]) -> tuple[int | None, Items, list[str]]:
    assert isinstance(bench, SwarmBench), "the other kind of study"
    notes = [f"The {len(bench.swarm.table.runs)} models of the table were trained elsewhere, and cost nothing here."]
    return None, {"search": searched(own, 0)}, notes


def _commands(bench: OpenedStudy) -> list[Command]:
    """Read the ledgers of a study and of its pool."""
    of_pool = kept_in_pool(bench.proxy.pool.folder) if isinstance(bench, Workbench) else []
    return [*of_pool, *kept_in_study(bench.database.engine, bench.config.name)]


def _by_verb(commands: Sequence[Command]) -> dict[str, Runs]:
    verbs = dict.fromkeys(one.verb for one in commands)
    return {verb: Runs.of([one for one in commands if one.verb == verb]) for verb in verbs}


def _rest(commands: Sequence[Command], items: Items) -> Part:
    """Take what commands recorded elsewhere in the bill from what they took.

    Where workers ran side by side, records hold more wall time than the command: its rest of wall time is then 0.
    """
    within = [one.part for one in chain(*items.values()) if _is_within(one.ended_unix, commands)]
    wall = math.fsum(one.seconds for one in commands) - math.fsum(one.seconds for one in within)
    taken = math.fsum(one.processor_seconds for one in commands)
    return Part(
        seconds=max(0.0, wall),
        processor_seconds=max(0.0, taken - math.fsum(one.processor_or_wall for one in within)),
    )


def _is_within(ended_unix: float | None, commands: Sequence[Command]) -> bool:
    return ended_unix is not None and any(one.saw(ended_unix) for one in commands)


def _notes_of_ledgers(commands: Sequence[Command], items: Items) -> list[str]:
    if not commands:
        return [NO_LEDGER]
    made = [one for one in chain(*items.values()) if one.part.trainings or one.part.merges]
    outside = sum(not _is_within(one.ended_unix, commands) for one in made)
    note = (
        f"{outside} of {len(made)} trainings and merges are of no command in a ledger: they are older, or of a command "
        "that was killed, or of another study. The rest of their commands is outside the bill."
    )
    return [*([note] if outside else []), OUTSIDE]


def _other_ways(bench: OpenedStudy, bill: Bill, swarm: int) -> list[Way]:
    counts = {f"a swarm of {swarm:,} models": swarm, "a model of every subset": 2 ** len(bench.space.names) - 1}
    if not isinstance(bench, Workbench):
        return [Way(name, count) for name, count in counts.items()]
    recipe, context = bench.proxy.pool.config.recipe, bench.proxy.pool.config.context
    seed, members, ways = bill.parts["seed"], bill.parts["members"], list[Way]()
    run = float(TRAINED * (bill.parameters or 0) * recipe.windows(context) * context)
    each = members.billed_seconds / members.trainings if members.trainings else math.nan
    for name, count in counts.items():
        times = count if count.bit_length() < 1000 else math.inf  # no float holds a larger count
        seconds = seed.billed_seconds + times * each if members.trainings else None
        ways.append(Way(f"{name}, from this seed", count + seed.trainings, seed.flops + times * run, seconds))
    return [*ways, *PUBLISHED]


def _notes(parts: Mapping[str, Part], own: Sequence[FrozenTrial], *, taken_over: int) -> list[str]:
    recalled = sum(bool(one.user_attrs.get(CACHED)) for one in own)
    unrecorded = ", ".join(name for name, part in parts.items() if part.processor_seconds is None)
    told = {
        f"{recalled} mixtures of the search were remembered from other studies or verbs; what several share is counted "
        "once, under other scores.": recalled,
        f"{taken_over} evaluations were taken over as evidence, and cost nothing here.": taken_over,
        f"Processor time is not recorded of: {unrecorded}; wall time is billed there.": unrecorded,
    }
    return [note for note, holds in told.items() if holds]
