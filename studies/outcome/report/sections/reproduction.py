"""Everything needed to get the same again, and what it cost: digests, versions, both files, commands, and the bill.

The page may be passed on, so passwords in it are masked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import optuna
from rich.console import Console

from pool.files.secrets import MASK, SECRET_OPTIONS, without_passwords
from pool.files.toml import as_options, assigned
from search.trials import count_trials
from studies.opened.identity import ACCEPTED, IDENTITY, VERSIONS, current_versions
from studies.outcome.cost.bill import HOUR, Bill
from studies.outcome.cost.find import find_bill
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Passage, Section, Table
from studies.terminal import plain_table

_IN_QUERY = re.compile(rf"(?P<before>[?&](?:{'|'.join(sorted(SECRET_OPTIONS))}|token|secret)=)[^\s\"']+", re.IGNORECASE)
"""An & in a password ends no password here."""
_ASSIGNED = re.compile(
    r"(?P<before>[\w.-]*(?:password|passwd|secret|token|api_?key)[\"']?\s*[=:]\s*)(?P<quote>[\"']).*?(?P=quote)",
    re.IGNORECASE,
)


_ORDER = ("prior", "refine", "best", "confirm", "robustness", "ages", "fidelity", "ablate", "pool", "samples", "rate")
"""Of the commands after a search, by their verbs."""


def reproduction_section(facts: Facts, commands: Iterable[str] = ()) -> Section:
    """Show the study's identity, versions then and now, both files, and the commands that made what is shown."""
    passages = [
        Passage("Commands", masked(_commands(facts, commands))),
        Passage(f"Study file {facts.study_file.name}", _text(facts.study_file)),
    ]
    pool_file = facts.bench.config.pool
    if pool_file:
        passages.append(Passage(f"Pool file {pool_file.name}", _text(pool_file)))
    notes = []
    accepted = facts.study.user_attrs.get(ACCEPTED)
    if accepted:
        notes.append(f"The study's course was changed on the way: {json.dumps(accepted)}")
    return Section(
        "reproduction",
        "Reproduce this",
        notes=notes,
        tables=[_digests(facts), _identity(facts.study), _versions(facts.study)],
        passages=passages,
    )


def cost_section(facts: Facts) -> Section:
    """Show the study's bill, beside other ways to its answer."""
    bill = find_bill(facts.bench)
    return Section("cost", "What it cost", notes=[per_decision(bill), *bill.notes], tables=cost_tables(bill))


def cost_tables(bill: Bill) -> list[Table]:
    """Return the parts of a bill with their sum, the commands, and the ways to its answer, in hours."""
    priced, on_gpus = bill.price_per_hour is not None, bool(bill.total.gpu_seconds)
    parts = [*bill.parts.items(), ("total", bill.total)]
    billed = [*(part.billed_seconds for part in bill.parts.values()), bill.billed_seconds]
    columns = ("part", "trainings", "merges", "tokens trained", "tokens scored", "FLOPs", "wall", "processor")
    rows: list[list[Cell]] = [
        [
            *(name, one.trainings, one.merges, one.trained_tokens, one.scored_tokens, one.flops),
            *(_hours(one.seconds), "not recorded" if one.processor_seconds is None else _hours(one.processor_seconds)),
            *([_hours(one.gpu_seconds)] if on_gpus else []),
            _hours(seconds),
            *([bill.price(seconds)] if priced else []),
        ]
        for (name, one), seconds in zip(parts, billed, strict=True)
    ]
    ways: list[list[Cell]] = [
        [
            *(one.name, _count(one.trainings), one.flops, _hours(one.billed_seconds)),
            *([bill.price(one.billed_seconds)] if priced else []),
        ]
        for one in bill.ways
    ]
    last = ("billed", "price") if priced else ("billed",)
    runs: list[list[Cell]] = [
        [verb, one.times, _hours(one.seconds), _hours(one.processor_seconds)] for verb, one in bill.commands.items()
    ]
    return [
        Table("cost", _units(bill), (*columns, *(["GPU"] if on_gpus else []), *last), rows),
        *(
            [Table("commands", "What commands took, in hours", ("command", "entries", *columns[-2:]), runs)]
            if runs
            else []
        ),
        Table("ways", "What other ways would have cost, in the same units", ("way", "trainings", "FLOPs", *last), ways),
    ]


def _count(trainings: int) -> int | float | str:
    """Show a number of trainings, beyond a million by its size."""
    return trainings if trainings < 10**6 else float(trainings) if trainings.bit_length() < 1000 else "beyond 1e300"


def _units(bill: Bill) -> str:
    size = bill.parameters
    flops = f"; FLOPs are 6 N D of training and 2 N D of scoring, N all {size:,} parameters" if size else ""
    return f"Times are hours{flops}"


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / HOUR


def per_decision(bill: Bill) -> str:
    """Say the cost of one decision."""
    if bill.seconds_per_merge is None or bill.trainings_per_decision is None:
        return "No mixture has been merged for the search yet."
    return (
        f"{bill.seconds_per_merge:.3g} s a merge; {bill.trainings_per_decision:.3g} trainings a decision, where a "
        "swarm takes 1."
    )


def show_bill(console: Console, bill: Bill) -> None:
    """Show a bill to people: its parts, then the other ways."""
    console.print(f"What study {bill.study!r} has cost. {_units(bill)}", soft_wrap=True)
    for table in cost_tables(bill):
        shown = plain_table(*table.columns)
        for row in table.rows:
            shown.add_row(*map(_shown, row))
        console.print(shown)
    for note in (per_decision(bill), *bill.notes):
        console.print(note, soft_wrap=True)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.3g}" if isinstance(cell, float) else cell


def _commands(facts: Facts, more: Iterable[str]) -> str:
    pool, merges = facts.bench.config.pool, count_trials(facts.study).merges
    build = [f"mixscout pool build {pool.name}{as_options(pool)}"] if pool else []
    file = facts.typed
    after = sorted({f"mixscout best {file}", *more}, key=lambda one: (_ORDER.index(one.split()[1]), one))
    truths = f" --truths {facts.truths}" if facts.truths else ""
    return "\n".join([*build, f"mixscout search {file} --merges {merges}", *after, f"mixscout report {file}{truths}"])


def _digests(facts: Facts) -> Table:
    rows: list[list[Cell]] = [["objective", facts.bench.objective.digest]]
    if facts.best is not None:
        rows.append(["best mixture", facts.best.digest])
    if facts.on_pool:
        manifest = facts.on_pool.proxy.pool.manifest
        rows += [["pool", manifest.digest], ["seed", manifest.seed.weights_digest]]
        rows.append(["tokenizer", manifest.corpus.tokenizer_digest])
        rows += [[f"member {name}", member.weights_digest] for name, member in manifest.members.items()]
        rows += [[f"held-out {name}, search", one.digest] for name, one in manifest.corpus.search.items()]
        rows += [[f"held-out {name}, test", one.digest] for name, one in manifest.corpus.test.items()]
    if facts.on_table:
        rows.append(["table", facts.on_table.swarm.table.digest])
    rows.append(["database", str(facts.bench.database.address)])
    return Table("digests", "Digests, and where the study is kept", ("of", "digest"), rows)


def _identity(study: optuna.Study) -> Table:
    identity: Mapping[str, object] = study.user_attrs[IDENTITY]
    rows = [[part, masked(value if isinstance(value, str) else json.dumps(value))] for part, value in identity.items()]
    return Table("identity", "What the study was started with", ("part", "value"), rows)


def _versions(study: optuna.Study) -> Table:
    before, now = study.user_attrs.get(VERSIONS, {}), current_versions()
    rows = [[name, before.get(name), version] for name, version in now.items()]
    return Table("versions", "Versions", ("library", "when started", "now"), rows)


def _text(path: Path) -> str:
    told = "".join(f"\n# --set {assignment}" for assignment in assigned(path))
    return masked(path.read_text(encoding="utf-8") + told)


def masked(text: str) -> str:
    """Replace passwords in URLs, and quoted values of keys that sound secret, by asterisks."""
    text = _IN_QUERY.sub(rf"\g<before>{MASK}", without_passwords(text))
    return _ASSIGNED.sub(rf"\g<before>\g<quote>{MASK}\g<quote>", text)
