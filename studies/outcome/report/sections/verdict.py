"""The verdict of a report, and behind it the leads: how far the best mixture is better than each baseline.

A lead is a difference on the same documents. Its interval is much narrower than the intervals of both losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from matplotlib.figure import Figure

from pool.mixture import Mixture
from studies.answers.picture import INK, draw_weights
from studies.answers.score import Json
from studies.answers.tables import LEAST_SHOWN, next_run_in_words
from studies.opened.opened_study import REFINED
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import (
    Advantage,
    Cell,
    Chart,
    Section,
    Side,
    Table,
    draw_lead,
    legend_below,
    one_panel,
    shown,
)
from studies.outcome.report.sections.standings import (
    BEST,
    DOWNSTREAM,
    MERGED,
    PREDICTED,
    SEED,
    TRAINED,
    Figures,
    Standings,
    of_pool,
    of_scales,
    of_table,
    standings_notes,
    standings_table,
)

BY_TRAININGS = "The best mixture is that of mixscout refine, by trainings and merges together."
REFINEMENT = "search split, trainings and merges together"
MARKS = {TRAINED: "D", REFINEMENT: "^", MERGED["test"]: "s", MERGED["search"]: "o", DOWNSTREAM: "v", PREDICTED: "P"}
"""By the measured quantity; the first that a study has decides."""
_MOST_NAMED = 5


@dataclass(frozen=True)
class Takeaway:
    """What a reader takes away in ten seconds.

    train_on: the mixture in words.
    claim: its lead with the interval, or from what it cannot be told.
    status: whether a model was really trained on it.
    details: further sentences.
    leads: of all measured quantities, the decisive one first.
    """

    train_on: str
    claim: str
    status: str
    side: Side
    details: Sequence[str]
    leads: Sequence[Advantage]

    @property
    def headline(self) -> str:
        return f"Train on {self.train_on}: {self.claim}, {self.status}."

    def as_json(self) -> Json:
        leads = [{**asdict(lead), "verdict": lead.side} for lead in self.leads]
        return {"headline": self.headline, "side": self.side, "details": list(self.details), "leads": leads}


def verdict_of(facts: Facts) -> Takeaway | None:
    """Judge the best mixture by the surest of its leads; None without one."""
    return _verdict(facts, facts.best, leads_of(facts, _standings(facts, facts.best))) if facts.best else None


def _verdict(facts: Facts, best: Mixture, leads: Sequence[Advantage]) -> Takeaway:
    if not leads:
        nothing = f"compared with nothing yet; run: mixscout best {facts.typed}"
        return Takeaway(percentages(best), "not yet " + nothing, "merged only: not trained yet", "unclear", [], [])
    decisive = [lead for lead in leads if lead.measured_on == leads[0].measured_on]
    unbeaten = [lead for lead in decisive if lead.side != "better"]
    first = unbeaten[0] if unbeaten else decisive[0]
    said = [_claim(first, facts.lead_unit)]
    if first is not decisive[0] and decisive[0].side == "better":
        said.append(f"{decisive[0].in_words} better than {_called(decisive[0].baseline)}")
    others = [_claim(lead) for lead in decisive if lead not in (first, decisive[0])]
    details = [_interval_in_words(decisive[0], facts)]
    if others:
        details.insert(0, f"Also {', '.join(others)}.")
    return Takeaway(percentages(best), "; ".join(said), _status(facts, decisive[0]), first.side, details, leads)


def _claim(lead: Advantage, unit: str = "") -> str:
    amount, baseline = f"{lead.in_words} {unit}".rstrip(), _called(lead.baseline)
    if not math.isfinite(lead.high):
        word = "better" if lead.better >= 0 else "worse"
        return f"{amount} {word} than {baseline}, by how much chance is not known"
    if lead.side == "unclear":
        return f"cannot be told from {baseline} ({amount})"
    return f"{amount} {lead.side} than {baseline}"


def _called(baseline: str) -> str:
    return baseline if baseline in ("uniform", "proportional") else f"the {baseline}"


def _status(facts: Facts, lead: Advantage) -> str:
    """Say whether a model was really trained on the best mixture."""
    if lead.measured_on == TRAINED:
        return "really trained"
    if lead.measured_on == REFINEMENT:
        return "really trained, by mixscout refine"
    if facts.swarm_best:
        if facts.swarm_best.best.value.measured is not None:
            return "a run of the table, predicted from the others"
        return "predicted only: no model was trained on it"
    return "merged only: not trained yet"


def _interval_in_words(lead: Advantage, facts: Facts) -> str:
    if lead.measured_on == PREDICTED:
        return (
            "After ± is the 90 % interval of a prediction; of two predictions, as if their errors were independent. "
            "What was measured has no interval here."
        )
    if lead.measured_on == REFINEMENT:
        return "After ± or in brackets are 95 % intervals, from the model of trainings and merges."
    if lead.measured_on == DOWNSTREAM:
        return "Errors are those on the downstream tasks, on the same documents."
    split = "test" if lead.measured_on in (TRAINED, MERGED["test"]) else "search"
    chose = ", which chose nothing" if split == "test" else ", which chose the mixture"
    return f"After ± is the 95 % interval over documents of the {split} split{chose}."


def percentages(mixture: Mixture) -> str:
    """Write the largest weights of a mixture for people."""
    used = [(name, weight) for name, weight in mixture.as_dict().items() if weight >= LEAST_SHOWN]
    used.sort(key=lambda item: -item[1])
    named = [f"{100 * weight:.0f}\N{NO-BREAK SPACE}% {shown(name)}" for name, weight in used[:_MOST_NAMED]]
    more = len(used) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])


def _standings(facts: Facts, best: Mixture) -> Standings:
    if facts.swarm_best:
        return of_table(facts.swarm_best)
    assert facts.on_pool is not None
    return of_pool(facts.on_pool, best)


def leads_of(facts: Facts, standings: Standings) -> list[Advantage]:
    """List the leads over every baseline, by the quantity that decides first."""
    found: dict[str, list[Advantage]] = {what: _leads(facts, what, some) for what, some in standings.items()}
    if facts.swarm_best:
        found = {PREDICTED: list(_predicted(facts, standings))}
    if REFINED in facts.study.user_attrs:
        found[REFINEMENT] = list(_refined(facts.study.user_attrs[REFINED]["baselines"]))
    order = [DOWNSTREAM] if facts.bench.config.downstream else MARKS
    return [lead for what in order for lead in _if_it_decides(found.get(what, []))]


def _if_it_decides(leads: Sequence[Advantage]) -> Sequence[Advantage]:
    """Leave out leads over the seed alone: without a baseline of the same kind they decide nothing."""
    return leads if any(lead.baseline != SEED for lead in leads) else []


def _leads(facts: Facts, what: str, standings: Mapping[str, Figures]) -> list[Advantage]:
    best, leads = standings.get(BEST), list[Advantage]()
    for name, one in standings.items() if best else ():
        if one.paired:
            leads.append(Advantage.of(shown(name), what, one.paired))
        elif best and name != BEST:
            leads.append(Advantage(shown(name), what, one.value - best.value, -math.inf, math.inf))
    return leads


def _predicted(facts: Facts, standings: Standings) -> Iterator[Advantage]:
    """Compare the predictions of a table, or a prediction with what was measured: half^2 is the sum of both squares."""
    predicted, measured = standings[PREDICTED], standings.get("measured", {})
    best, sign = predicted[BEST], facts.bench.target.shown(1.0)
    for name, one in predicted.items():
        if name != BEST:
            uncertain = [best] if name in measured else [best, one]
            half = math.hypot(*((each.high - each.low) / 2 for each in uncertain))
            better = sign * (measured.get(name, one).value - best.value)
            yield Advantage(shown(name), PREDICTED, better, better - half, better + half)


def _refined(baselines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Advantage]:
    for name, one in baselines.items():
        ahead = one["ahead"]
        yield Advantage(shown(name), REFINEMENT, ahead["value"], ahead["low"], ahead["high"])


def best_section(facts: Facts) -> Section:
    """Show the leads, the weights, and the standings behind both."""
    section, best = partial(Section, "best", "Best mixture"), facts.best
    if best is None:
        return section(missing=facts.search_first)
    standings = _standings(facts, best)
    leads = leads_of(facts, standings)
    scales = facts.swarm_best.scales if facts.swarm_best else None
    notes = [next_run_in_words(scales)] if scales else []
    if not facts.swarm_best:
        refined = [BY_TRAININGS] if REFINED in facts.study.user_attrs else []
        notes = [*refined, *standings_notes(standings, facts.typed)]
    charts = [_weights_chart(facts.study.study_name, best)]
    if leads:
        charts.insert(0, _leads_chart(facts, leads))
    confirmed = BEST in standings.get(TRAINED, {}) and "uniform" in standings[TRAINED]
    answer = facts.study.user_attrs.get(REFINED)
    commands = [f"mixscout refine {facts.typed} --truths {answer['truths']['budget']}"] if answer else []
    if confirmed:
        commands.append(f"mixscout confirm {facts.typed}")
    table = standings_table(facts.unit, standings)
    return section(
        notes=notes, tables=[table, *(of_scales(scales) if scales else [])], charts=charts, commands=commands
    )


def _leads_chart(facts: Facts, leads: Sequence[Advantage]) -> Chart:
    rows: list[list[Cell]] = [[one.baseline, one.better, one.side, one.low, one.high, one.measured_on] for one in leads]
    columns = ("baseline", "better by", "verdict", "low", "high", "measured on")
    decisive = leads[0].measured_on
    alt = "; ".join(_claim(lead) for lead in leads if lead.measured_on == decisive)
    caption = (
        "By how much the best mixture is better than each baseline, with intervals of the differences. Blue: better "
        f"beyond chance; orange: worse; grey: cannot be told. Numbers: {decisive}."
    )
    unit = f", {facts.lead_unit}" if facts.lead_unit else ""
    table = Table("leads", f"Paired differences from every baseline{unit}", columns, rows)
    return Chart("leads", caption, alt, partial(_draw_leads, facts.lead_unit, leads), table)


def _draw_leads(unit: str, leads: Sequence[Advantage]) -> Figure:
    baselines = list(dict.fromkeys(one.baseline for one in leads))
    quantities = list(dict.fromkeys(one.measured_on for one in leads))
    figure, axes = one_panel(1.3 + 0.55 * len(baselines) + 0.12 * len(quantities))
    for at, what in enumerate(quantities):
        axes.plot([], [], MARKS[what], color=INK, markersize=5, label=what)
        for lead in leads:
            if lead.measured_on == what:
                place = baselines.index(lead.baseline) + 0.2 * (at - (len(quantities) - 1) / 2)
                draw_lead(axes, lead, place, MARKS[what], said=at == 0)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(baselines)), baselines)
    axes.invert_yaxis()
    axes.margins(x=0.14, y=0.15)
    axes.set_xlabel(f"better by ({unit})" if unit else "better by")
    legend_below(figure, columns=1)
    return figure


def _weights_chart(study: str, best: Mixture) -> Chart:
    weights = sorted(best.as_dict().items(), key=lambda item: -item[1])
    table = Table("best-mixture", "Weights of the best mixture", ("partition", "weight"), weights)
    alt = "Bars: " + ", ".join(f"{shown(name)} {weight:.1%}" for name, weight in weights if weight > 0)
    caption = f"Weights of the best mixture of study {study}"
    return Chart("best-mixture", caption, alt, partial(_draw_weights, best), table)


def _draw_weights(best: Mixture) -> Figure:
    figure, axes = one_panel(1.1 + 0.3 * len(best.names))
    draw_weights(axes, best)
    return figure
