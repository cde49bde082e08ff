"""The course of the search, the gate's judgements over its trials, and the course of the best mixture with training."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from objectives.target import Direction
from pool.corpus.corpus import SPLITS
from search.trials import (
    CHANCE,
    THRESHOLD,
    VERDICT,
    Counts,
    Verdict,
    count_trials,
    finished_trials,
    merged_trials,
    tokens_by_domain,
)
from studies.answers.ages import Ages, remembered_ages
from studies.answers.picture import (
    BETTER,
    WORSE,
    best_so_far,
    draw_progress,
    draw_regret_by_age,
    draw_weights_by_age,
)
from studies.answers.tables import used_partitions
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, legend_below, one_panel
from studies.outcome.report.sections.standings import known_baselines

LEAST_CHANCE = 1e-6
"""Smaller chances are drawn here: a logarithmic axis has no place for zero."""
_MARKS = {
    Verdict.EVALUATE: (BETTER, "o"),
    Verdict.PRUNE: (WORSE, "x"),
    Verdict.AUDIT: (WORSE, "s"),
    Verdict.FORCED: (WORSE, "^"),
}
"""The colour is the judgement: an audit and a forced one were judged unlikely to win, and evaluated all the same."""


def progress_section(facts: Facts) -> Section:
    """Show every evaluation in order and the best so far."""
    section = partial(Section, "progress", "Best so far")
    if not len(facts.values):
        return section(missing=facts.search_first)
    values = facts.values.tolist()
    direction = facts.bench.target.direction
    best = best_so_far(values, direction)
    numbers = [trial.number for trial in facts.trials]
    rows = list(zip(range(1, len(values) + 1), numbers, values, best, strict=True))
    said = facts.unit + (", the mean of the targets" if facts.bench.several else "")
    table = Table("progress", "Every evaluation", ("evaluation", "trial", facts.unit, "best so far"), rows)
    way = "up" if direction == "maximise" else "down"
    alt = f"Steps from {best[0]:.4f} {way} to {best[-1]:.4f} after {len(best)} evaluations"
    caption = f"Each evaluated mixture, and the {facts.best_is} so far: {said}. Horizontal lines are baselines."
    baselines = {} if facts.on_pool is None else known_baselines(facts.on_pool)
    draw = partial(_draw_progress, values, baselines, facts.unit, direction)
    return section(charts=[Chart("progress", caption, alt, draw, table)])


def ages_section(facts: Facts) -> Section | None:
    """Show the best mixture by the age of the members; None where `ages` was not asked for the study's best."""
    found = remembered_ages(facts.bench, facts.study)
    if found is None:
        return None
    names, tokens = used_partitions(found), [age.tokens for age in found.ages]
    weights = [[age.tokens, *(age.weights[name] for name in names)] for age in found.ages]
    moves = Table("ages", "The best mixture by the tokens of each member", ("tokens", *names), weights)
    rows: list[list[Cell]] = []
    for age in found.ages:
        search, test = (age.regret_at_end[split] for split in SPLITS)
        at_end = (search.difference, test.difference, test.standard_error)
        rows.append([age.tokens, age.steps, age.value, age.regret, *at_end, age.distance, age.spearman])
    columns = (
        *("tokens", "step", facts.unit, "best at the end is worse by", "worse at the end, search"),
        *("worse at the end, test", "standard error", "distance", "Spearman"),
    )
    regret = Table("ages-regret", "What an age's best mixture costs at the members' end", columns, rows)
    alt = f"From {tokens[0]:,} to {tokens[-1]:,} tokens: {found.verdict}"
    caption = "Weights of the best mixture by the tokens that each member had read."
    costs = "How much worse each age's best mixture is at the members' end, with 95 % intervals."
    charts = [
        Chart("ages", caption, alt, partial(_draw_ages, draw_weights_by_age, found), moves),
        Chart("ages-regret", costs, alt, partial(_draw_ages, draw_regret_by_age, found), regret),
    ]
    commands = [f"mixscout ages {facts.typed} --merges {found.merges}"]
    return Section(
        "ages", "Does the best mixture move with training?", notes=[found.verdict], charts=charts, commands=commands
    )


def gate_section(facts: Facts) -> Section:
    """Show the counts, and each proposal's chance of winning beside the threshold."""
    counts = count_trials(facts.study)
    judged = [trial for trial in finished_trials(facts.study) if trial.user_attrs.get(CHANCE) is not None]
    section = partial(
        Section,
        "gate",
        "Gate",
        notes=[
            f"False-prune rate, measured on the audits: {counts.false_prune_rate()}.",
            *(f"{failure}." for failure in counts.failures()),
        ],
        tables=[_counts(counts), *_tokens(facts, counts)],
    )
    if judged:
        return section(charts=[_chances(judged)])
    file, gate = facts.study_file.name, facts.bench.config.gate
    if gate.enabled and not facts.bench.config.gated:
        return section(missing=f"The gate is off: predictions cost less than judging. A [gate] in {file} sets it.")
    if gate.enabled:
        return section(
            missing=f"No proposal was judged yet: the gate begins after {gate.min_evidence} evaluations. "
            f"Run: mixscout search {facts.typed} --merges with more"
        )
    return section(
        missing=f"The gate is off in {file}. Without `enabled = false` under [gate], "
        f"run: mixscout search {facts.typed} --accept"
    )


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
        ["held-out tokens left unread by stopping early", counts.tokens_unread],
    ]
    return Table("gate", "Where the proposals went", ("proposals", "number"), rows)


def _tokens(facts: Facts, counts: Counts) -> list[Table]:
    """Show by domain what stopping early left unread, if it stopped anything."""
    if facts.on_pool is None or not counts.stopped_early:
        return []
    read, in_full = tokens_by_domain(merged_trials(facts.trials), facts.on_pool.table("search").tokens_but_for())
    rows: list[list[Cell]] = [[name, read[name], in_full[name], read[name] / max(1, in_full[name])] for name in read]
    return [Table("stopped", "Held-out tokens that merges read", ("domain", "read", "in full", "share"), rows)]


def _chances(judged: Sequence[FrozenTrial]) -> Chart:
    said = [trial.user_attrs for trial in judged]
    rows: list[list[Cell]] = [
        [trial.number, str(one[VERDICT]), float(one[CHANCE]), float(one[THRESHOLD])]
        for trial, one in zip(judged, said, strict=True)
    ]
    table = Table("gate-course", "Every judged proposal", ("trial", "verdict", "chance of winning", "threshold"), rows)
    verdicts = [row[1] for row in rows]
    alt = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
    caption = (
        "Each judged proposal's predicted chance of winning, and the threshold below which proposals are pruned. "
        f"Chances under {LEAST_CHANCE:g} are drawn there."
    )
    return Chart("gate-course", caption, alt, partial(_draw_chances, judged), table)


def _draw_progress(values: Sequence[float], baselines: Mapping[str, float], unit: str, direction: Direction) -> Figure:
    figure, axes = one_panel(4.0)
    draw_progress(axes, values, baselines, direction)
    axes.set_ylabel(unit)
    legend = axes.get_legend()
    if legend:
        legend.remove()
    legend_below(figure, columns=2)
    return figure


def _draw_ages(draw: Callable[[Axes, Ages], None], found: Ages) -> Figure:
    figure, axes = one_panel(4.0)
    draw(axes, found)
    legend_below(figure, columns=2)
    return figure


def _draw_chances(judged: Sequence[FrozenTrial]) -> Figure:
    figure, axes = one_panel(3.8)
    for verdict, (colour, mark) in _MARKS.items():
        of_it = [trial for trial in judged if trial.user_attrs[VERDICT] == verdict]
        if of_it:
            numbers = [trial.number for trial in of_it]
            axes.plot(
                numbers, _drawn(of_it, CHANCE), mark, color=colour, markersize=5, label=f"{verdict} ({len(of_it)})"
            )
    numbers, thresholds = [trial.number for trial in judged], _drawn(judged, THRESHOLD)
    axes.step(numbers, thresholds, where="mid", color="black", linewidth=1, label="threshold")
    axes.set_yscale("log")
    axes.set_ylim(min([*thresholds, *_drawn(judged, CHANCE), 0.01]) / 2, 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel("chance of winning")
    legend_below(figure, columns=3)
    return figure


def _drawn(trials: Sequence[FrozenTrial], key: str) -> list[float]:
    return [max(LEAST_CHANCE, trial.user_attrs[key]) for trial in trials]
