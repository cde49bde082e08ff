"""A study's report: its sections in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.trials import count_trials
from studies.answers.score import Json
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Chart, Section, Table
from studies.outcome.report.sections.contributions import contributions_section
from studies.outcome.report.sections.diagnostics import surrogate_section
from studies.outcome.report.sections.fidelity import fidelity_section
from studies.outcome.report.sections.gate_course import gate_section
from studies.outcome.report.sections.mixtures import mixtures_section
from studies.outcome.report.sections.progress import progress_section
from studies.outcome.report.sections.reproduction import reproduction_section
from studies.outcome.report.sections.slices import slices_section
from studies.outcome.report.sections.standings import best_section
from studies.outcome.report.sections.trade_off import trade_off_section
from studies.outcome.report.sections.transfer import transfer_section

SECTIONS: Sequence[Callable[[Facts], Section]] = (
    best_section,
    slices_section,
    mixtures_section,
    progress_section,
    trade_off_section,
    surrogate_section,
    gate_section,
    transfer_section,
    contributions_section,
    fidelity_section,
    reproduction_section,
)


@dataclass(frozen=True)
class Report:
    """All sections of a study's report; `summary` is one line."""

    study: str
    summary: str
    sections: Sequence[Section]

    @property
    def charts(self) -> list[Chart]:
        """All charts."""
        return [chart for section in self.sections for chart in section.charts]

    @property
    def tables(self) -> list[Table]:
        """All tables by name, each once: what is drawn may also be shown."""
        named = {table.name: table for section in self.sections for table in section.all_tables}
        return list(named.values())

    def as_json(self) -> Json:
        """Give all but the pictures."""
        sections = {section.key: section.as_json() for section in self.sections}
        return {"study": self.study, "summary": self.summary, "sections": sections}


def make_report(facts: Facts) -> Report:
    """Collect all sections; nothing is merged or trained for them."""
    return Report(facts.study.study_name, _summary(facts), [section(facts) for section in SECTIONS])


def _summary(facts: Facts) -> str:
    counts = count_trials(facts.study)
    done, wanted = counts.merges, facts.bench.config.search.merges
    spent = f"{done} of {wanted} evaluations are spent" if done < wanted else f"{done} evaluations are spent"
    if facts.best is None:
        return f"{spent}; there is no best mixture yet."
    lowest = facts.values.min() if len(facts.values) else float("nan")
    return f"{spent}, {counts.pruned} proposals were pruned; the lowest {facts.unit} is {lowest:.4f}."
