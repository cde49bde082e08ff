"""The best value so far against merges."""

from collections.abc import Mapping
from functools import partial
from itertools import accumulate

from matplotlib.figure import Figure

from studies.answers.picture import draw_progress
from studies.outcome.report.facts.drawing import one_panel
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Chart, Section, Table
from studies.outcome.report.sections.standings import known_baselines

KEY, TITLE = "progress", "Best so far"


def progress_section(facts: Facts) -> Section:
    """Show every evaluation in order and the lowest so far."""
    if not len(facts.values):
        return Section(KEY, TITLE, missing=facts.search_first)
    best = list(accumulate(facts.values.tolist(), min))
    rows = [
        [merge, trial.number, float(value), lowest]
        for merge, (trial, value, lowest) in enumerate(zip(facts.trials, facts.values, best, strict=True), start=1)
    ]
    said = facts.unit + (", the mean of the targets" if facts.bench.several else "")
    table = Table("progress", "Every evaluation", ("evaluation", "trial", facts.unit, "best so far"), rows)
    alt = f"Steps from {best[0]:.4f} down to {best[-1]:.4f} after {len(best)} evaluations"
    caption = f"Each evaluated mixture, and the lowest so far: {said}. Horizontal lines are baselines."
    return Section(
        KEY, TITLE, charts=[Chart("progress", caption, alt, partial(_draw, facts, _baselines(facts)), table)]
    )


def _baselines(facts: Facts) -> Mapping[str, float]:
    """Take the baselines that are comparable with trials: the study's own objective."""
    return {} if facts.on_pool is None else known_baselines(facts.on_pool)


def _draw(facts: Facts, baselines: Mapping[str, float]) -> Figure:
    figure, axes = one_panel(4.0)
    draw_progress(axes, facts.values.tolist(), baselines)
    axes.set_ylabel(facts.unit)
    legend = axes.get_legend()
    if legend:
        legend.remove()  # inside a small figure it would cover points
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
    return figure
