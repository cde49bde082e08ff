"""Proxy against truth, where models were really trained for it and remembered."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from matplotlib.figure import Figure

from objectives.agreement.calibration import LEAST_TRUTHS
from pool.corpus.corpus import SPLITS, Split
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.assessment.fidelity.fidelity import Fidelity, rule_name, run_fidelity
from studies.assessment.fidelity.picture import draw_domains, draw_scatter
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths, import_truths, known_truths
from studies.opened.opened_study import best_mixture
from studies.outcome.report.facts.drawing import one_panel
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table

KEY, TITLE = "fidelity", "Does the merge stand for training?"


def fidelity_section(facts: Facts) -> Section:
    """Compare the truths that are remembered with their proxies, or say which command trains some."""
    if facts.on_pool is None:
        return Section(KEY, TITLE, missing="A table's values are of models really trained: there is no proxy to judge.")
    found = _remembered(facts)
    if found is None:
        few = f"Fewer than {LEAST_TRUTHS} mixtures were really trained for it."
        if facts.truths:
            few = f"The mixtures of {facts.truths} are too few, or were not merged yet."
        option = f" --truths {facts.truths}" if facts.truths else ""
        missing = f"{few} Run: mixscout fidelity {facts.study_file.name}{option}"
        return Section(KEY, TITLE, missing=missing)
    statistics = found.by_split["test"].agreement[VALUE]
    rows: list[list[Cell]] = [[name, one.value, one.low, one.high] for name, one in statistics.items()]
    columns = ("statistic", "value", "low", "high")
    table = Table("agreement", "Agreement on the test split, with 95 % intervals over mixtures", columns, rows)
    return Section(KEY, TITLE, tables=[table], charts=[_scatter(found), _domains(found)])


def _remembered(facts: Facts) -> Fidelity | None:
    bench = facts.on_pool
    assert bench is not None
    instruments = Instruments.of(bench)
    try:
        truths = import_truths(instruments, facts.truths) if facts.truths else known_truths(instruments)
        if len(truths.mixtures) < LEAST_TRUTHS:
            return None
        truths = _named(facts, truths)
        own = {rule_name(bench.proxy.rule): bench.proxy.rule}
        proxies = {split: _recalled(instruments, split, truths) for split in SPLITS}
        return run_fidelity(instruments, truths, proxies, own)
    except NotRememberedError:
        return None


def _recalled(instruments: Instruments, split: Split, truths: Truths) -> Readings:
    proxy = instruments.proxy_loss(split)
    return instruments.read(split, [proxy(mixture) for mixture in truths.mixtures.values()])


def _named(facts: Facts, truths: Truths) -> Truths:
    """Name the mixtures that the picture marks; the others keep their digests."""
    bench = facts.on_pool
    assert bench is not None
    known = {bench.pool.proportional().digest: "proportional"}
    known[Mixture.uniform(bench.pool.names).digest] = "uniform"
    if facts.best is not None:
        known[best_mixture(bench, facts.study).digest] = "best"
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
    alt = f"{len(found.mixtures)} mixtures, Spearman {spearman:.2f}"
    return Chart("fidelity", caption, alt, partial(_draw_scatter, found), table)


def _domains(found: Fidelity) -> Chart:
    rows: list[list[Cell]] = [
        [
            "the study's value" if name == VALUE else name,
            one["spearman"].value,
            one["spearman"].low,
            one["spearman"].high,
        ]
        for name, one in found.by_split["test"].agreement.items()
    ]
    table = Table("fidelity-domains", "Spearman by domain", ("domain", "Spearman", "low", "high"), rows)
    caption = "How well merges rank mixtures, by held-out domain; 1 is perfect, 0 is chance."
    alt = ", ".join(f"{row[0]}: {row[1]:.2f}" for row in rows)
    return Chart("fidelity-domains", caption, alt, partial(_draw_domains, found), table)


def _draw_scatter(found: Fidelity) -> Figure:
    figure, axes = one_panel(4.2)
    draw_scatter(axes, found, "test")
    return figure


def _draw_domains(found: Fidelity) -> Figure:
    figure, axes = one_panel(1.4 + 0.3 * len(found.by_split["test"].agreement))
    draw_domains(axes, found, "test")
    return figure
