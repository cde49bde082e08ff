"""Fidelity: proxy against truth, for remembered trained models; and mixtures from text alone against both."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from objectives.agreement.rule_average import LEAST_TRUTHS
from objectives.merging.rules import USUAL_EXPONENTS
from pool.corpus.corpus import SPLITS, Split
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from pool.parts.store import Pool
from studies.assessment.fidelity.fidelity import Fidelity, rule_name, rules_with, run_fidelity
from studies.assessment.fidelity.picture import draw_domains, draw_scatter
from studies.assessment.fidelity.priors import find_priors
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths, import_truths, known_truths
from studies.opened.on_pool import Workbench
from studies.opened.text_priors import DESCRIPTIONS
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, one_panel
from studies.terminal import digits


def fidelity_section(facts: Facts) -> Section:
    """Compare the remembered truths with their proxies, or name the command to train some."""
    section = partial(Section, "fidelity", "Does the merge stand for training?")
    bench, truths = facts.on_pool, facts.truths
    if bench is None:
        return section(missing="A table's values are of models really trained: there is no proxy to judge.")
    found = _remembered(bench, truths, facts.best)
    if found is None:
        few = f"Fewer than {LEAST_TRUTHS} mixtures were really trained for it."
        if truths:
            few = f"The mixtures of {truths} are too few, or were not merged yet."
        option = f" --truths {truths}" if truths else ""
        return section(missing=f"{few} Run: mixscout fidelity {facts.typed}{option}")
    statistics = found.by_split["test"].agreement[VALUE]
    rows: list[list[Cell]] = [[name, one.value, one.low, one.high] for name, one in statistics.items()]
    columns = ("statistic", "value", "low", "high")
    table = Table("agreement", "Agreement on the test split, with 95 % intervals over mixtures", columns, rows)
    predicted = _predicted(bench, found, facts.best)
    return section(
        tables=[table, *([predicted] if predicted else [])],
        charts=[_scatter(found), _domains(found)],
        commands=[f"mixscout fidelity {facts.typed}{f' --truths {truths}' if truths else ''}"],
    )


def priors_section(facts: Facts) -> Section | None:
    """Show how text alone ranks what is known; None where the search did not start at mixtures from text."""
    if facts.on_pool is None or not set(facts.bench.config.search.start) & set(DESCRIPTIONS):
        return None
    found = find_priors(facts.bench, counted=True).priors  # a report loads no model
    judged = [
        (one, known, by)
        for one in found
        for known, by in (("merged", one.merges), ("really trained", one.truths))
        if by
    ]
    rows: list[list[Cell]] = [[one.name, by.spearman, by.regret, known, by.mixtures] for one, known, by in judged]
    columns = ("prior", "Spearman", "regret", "mixtures known by", "number")
    ranked = Table("priors", "How text alone ranks the mixtures (regret: of the one ranked first)", columns, rows)
    mixtures: list[list[Cell]] = [[one.name, *one.mixture.as_dict().values()] for one in found if one.mixture]
    weights = Table("prior-mixtures", "The mixtures from text alone", ("prior", *facts.names), mixtures)
    commands = [f"mixscout prior {facts.typed}"]
    return Section("priors", "What the text alone would say", tables=[ranked, weights], commands=commands)


def _remembered(bench: Workbench, imported: Path | None, best: Mixture | None) -> Fidelity | None:
    """Compare imported truths, or the study's own, with their proxies; None for too few."""
    instruments = Instruments.of(bench)
    try:
        normalise = bench.config.normalise
        truths = import_truths(instruments, imported, normalise=normalise) if imported else known_truths(instruments)
        if len(truths.mixtures) < LEAST_TRUTHS:
            return None
        truths = _named(truths, bench.proxy.pool, best)
        own = rule_name(instruments.rule)
        return run_fidelity(
            instruments, truths, {split: {own: _recalled(instruments, split, truths)} for split in SPLITS}
        )
    except NotRememberedError:
        return None


def _predicted(bench: Workbench, found: Fidelity, best: Mixture | None) -> Table | None:
    """Predict the truth of the best mixture; None where a merge that this takes is not remembered."""
    from studies.assessment.fidelity.forecast import Forecaster  # loads SciPy

    if best is None:
        return None
    instruments = Instruments.of(bench)
    try:
        forecaster = Forecaster.learn(instruments, found.truths, rules_with(instruments, USUAL_EXPONENTS))
        forecasts = forecaster.forecast(best)
    except NotRememberedError:
        return None
    rows: list[list[Cell]] = [
        [split, one.proxy, one.predicted.value, one.predicted.low, one.predicted.high, forecaster.rules_behind(split)]
        for split, one in forecasts.items()
    ]
    columns = ("split", "merged", "predicted if trained", "low", "high", "by merges of")
    return Table("prediction", "The best mixture if trained, with 90 % intervals", columns, rows)


def _recalled(instruments: Instruments, split: Split, truths: Truths) -> Readings:
    proxy = instruments.proxy_loss(split)
    return instruments.read(split, [proxy(mixture) for mixture in truths.mixtures.values()])


def _named(truths: Truths, pool: Pool, best: Mixture | None) -> Truths:
    """Name the mixtures with a mark in the picture; the others keep their digests."""
    known = {pool.proportional().digest: "proportional", Mixture.uniform(pool.names).digest: "uniform"}
    if best is not None:
        known[best.digest] = "best"
    mixtures = {known.get(one.digest, one.digest[:12]): one for one in truths.mixtures.values()}
    return replace(truths, mixtures=mixtures)


def _scatter(found: Fidelity) -> Chart:
    rows: list[list[Cell]] = [
        [name, split, float(one.proxy[VALUE][row]), float(one.truth[VALUE][row])]
        for row, name in enumerate(found.mixtures)
        for split, one in ((split, found.by_split[split]) for split in SPLITS)
    ]
    table = Table("fidelity", "Merged and really trained", ("mixture", "split", "merged", "really trained"), rows)
    caption = "Held-out loss of the model really trained against that of the merge, test split."
    spearman = found.by_split["test"].agreement[VALUE]["spearman"].value
    alt = f"{len(found.mixtures)} mixtures, Spearman {digits(spearman, '.2f')}"
    return Chart("fidelity", caption, alt, partial(_draw_scatter, found), table)


def _domains(found: Fidelity) -> Chart:
    ranked = {name: one["spearman"] for name, one in found.by_split["test"].agreement.items()}
    rows: list[list[Cell]] = [
        ["the study's value" if name == VALUE else name, one.value, one.low, one.high] for name, one in ranked.items()
    ]
    table = Table("fidelity-domains", "Spearman by domain", ("domain", "Spearman", "low", "high"), rows)
    caption = "How well merges rank mixtures, by held-out domain; 1 is perfect, 0 is chance."
    alt = ", ".join(f"{row[0]}: {digits(one.value, '.2f')}" for row, one in zip(rows, ranked.values(), strict=True))
    return Chart("fidelity-domains", caption, alt, partial(_draw_domains, found), table)


def _draw_scatter(found: Fidelity) -> Figure:
    figure, axes = one_panel(4.2)
    draw_scatter(axes, found, "test")
    return figure


def _draw_domains(found: Fidelity) -> Figure:
    figure, axes = one_panel(1.4 + 0.3 * len(found.by_split["test"].agreement))
    draw_domains(axes, found, "test")
    return figure
