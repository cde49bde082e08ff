"""What the gate did: where proposals went, how often it was wrong, and its threshold over the trials."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from search.trials import CHANCE, THRESHOLD, VERDICT, Counts, Verdict, count_trials, finished_trials
from studies.outcome.report.facts.drawing import BLUE, GREEN, ORANGE, PURPLE, one_panel
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table

KEY, TITLE = "gate", "Gate"
_MARKS = {Verdict.EVALUATE: (BLUE, "o"), Verdict.PRUNE: (ORANGE, "x"), Verdict.AUDIT: (GREEN, "s")}
_MARKS |= {Verdict.FORCED: (PURPLE, "^")}
LEAST_CHANCE = 1e-6
"""Chances below this are drawn here: they go down to 0, which a logarithm has no place for."""


def gate_section(facts: Facts) -> Section:
    """Show the counts, and each proposal's chance beside the threshold."""
    counts = count_trials(facts.study)
    judged = [trial for trial in finished_trials(facts.study) if trial.user_attrs.get(CHANCE) is not None]
    tables = [_counts(counts)]
    notes = [f"False-prune rate, measured on the audits: {counts.false_prune_rate()}."]
    if judged:
        return Section(KEY, TITLE, notes=notes, tables=tables, charts=[_chart(judged)])
    file = facts.study_file.name
    why = (
        f"No proposal was judged yet: the gate begins after {facts.bench.config.gate.min_evidence} evaluations. "
        f"Run: mixscout search {file} --merges with more"
    )
    if not facts.bench.config.gate.enabled:
        why = f"The gate is off in {file}. Without `enabled = false` under [gate], run: mixscout search {file} --accept"
    return Section(KEY, TITLE, notes=notes, tables=tables, missing=why)


def _counts(counts: Counts) -> Table:
    rows: list[list[Cell]] = [
        ["merges charged", counts.merges],
        ["of which remembered", counts.cached],
        ["of which failed", counts.failed],
        ["of which stopped early", counts.stopped_early],
        ["pruned", counts.pruned],
        ["audited", counts.audited],
        ["false prunes among the audits", counts.false_prunes],
        ["forced", counts.forced],
        ["held-out tokens read", counts.tokens_read],
    ]
    return Table("gate", "Where the proposals went", ("proposals", "number"), rows)


def _chart(judged: Sequence[FrozenTrial]) -> Chart:
    rows: list[list[Cell]] = [
        [
            trial.number,
            str(trial.user_attrs[VERDICT]),
            float(trial.user_attrs[CHANCE]),
            float(trial.user_attrs[THRESHOLD]),
        ]
        for trial in judged
    ]
    table = Table("gate-course", "Every judged proposal", ("trial", "verdict", "chance of winning", "threshold"), rows)
    verdicts = [row[1] for row in rows]
    alt = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
    caption = (
        "Each judged proposal's predicted chance of winning, and the threshold below which proposals are pruned. "
        f"Chances under {LEAST_CHANCE:g} are drawn there."
    )
    return Chart("gate-course", caption, alt, partial(_draw, judged), table)


def _draw(judged: Sequence[FrozenTrial]) -> Figure:
    figure, axes = one_panel(3.8)
    for verdict, (colour, mark) in _MARKS.items():
        of_it = [trial for trial in judged if trial.user_attrs[VERDICT] == verdict]
        chances = [max(LEAST_CHANCE, trial.user_attrs[CHANCE]) for trial in of_it]
        if of_it:
            numbers = [trial.number for trial in of_it]
            axes.plot(numbers, chances, mark, color=colour, markersize=5, label=f"{verdict} ({len(of_it)})")
    numbers = [trial.number for trial in judged]
    thresholds = [max(LEAST_CHANCE, trial.user_attrs[THRESHOLD]) for trial in judged]
    axes.step(numbers, thresholds, where="mid", color="black", linewidth=1, label="threshold")
    axes.set_yscale("log")
    axes.set_ylim(min([*thresholds, *(max(LEAST_CHANCE, trial.user_attrs[CHANCE]) for trial in judged), 0.01]) / 2, 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel("chance of winning")
    figure.legend(loc="outside lower left", ncols=3, frameon=False)
    return figure
