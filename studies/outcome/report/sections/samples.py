"""Texts of the best mixture and its baselines, blinded, with what was measured of them and what raters said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from objectives.held_out import CONFIDENT
from pool.errors import StudyError
from studies.outcome.rating import Ratings, known_ratings
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Quotation, Section, Table, shown
from studies.outcome.samples import BEST, Samples, not_measured, read_samples, samples_files


def samples_section(facts: Facts) -> Section:
    """Show the texts by domain in the order of the rater's file, and the key folded up."""
    section, best = partial(Section, "samples", "What the models write"), facts.best
    if best is None:
        return section(missing=facts.search_first)
    if facts.on_pool is None:
        return section(missing="A table has no models to write: this is for studies on a pool.")
    csv, key = samples_files(facts.bench.root / "reports", facts.bench.config.name)
    try:
        samples = read_samples(key)
    except StudyError:
        return section(missing=f"No texts were written yet. Run: mixscout samples {facts.typed}")
    if samples.mixture != best.as_dict():
        return section(
            missing=f"The texts are of another mixture than the best one. Run: mixscout samples {facts.typed}"
        )
    ratings = known_ratings(samples, csv)
    commands = [f"mixscout samples {facts.typed} --prompts {samples.per_domain} --seed {samples.seed}"]
    commands += [f"mixscout rate {facts.typed}"] if ratings else []
    rate = f"To judge them, write a number under `score` in {csv.name}, higher for better, then run: mixscout rate"
    notes = [
        f"{len(samples.prompts)} beginnings of held-out documents, each continued by {len(samples.contenders)} models "
        f"by {samples.new_tokens} tokens, with the same random numbers, in an order of its own.",
        *not_measured(samples),
        *([] if ratings else [f"{rate} {facts.typed}"]),
    ]
    tables = [*([_preferences(ratings)] if ratings else []), _measured(samples)]
    return section(notes=notes, tables=tables, quotations=list(_quotations(samples)), commands=commands)


def _quotations(samples: Samples) -> Iterator[Quotation]:
    for one in samples.prompts:
        yield Quotation(shown(one.domain), one.name, one.beginning, one.texts, one.writers)


def _preferences(found: Ratings) -> Table:
    rows: list[list[Cell]] = [
        [f"{one.contender} to {one.other}", one.share, one.verdict, one.low, one.high, one.better, one.worse, one.ties]
        for one in found.preferences
    ]
    columns = ("preferred", "share", "verdict", "low", "high", "better", "worse", "ties")
    caption = f"What {found.raters} of raters prefer, by prompts, with 95 % intervals (Wilson); ties left out"
    return Table("preferences", caption, columns, rows)


def _measured(samples: Samples) -> Table:
    """Show what was measured; what was not has no column."""
    mine = samples.measured[BEST]
    columns: dict[str, list[Cell]] = {"model": list(samples.measured)}
    if mine.coherence is not None:
        apart = [_mean_difference(mine.coherence, one.coherence) for one in samples.measured.values()]
        columns["best mixture is more coherent by"] = [one[0] if one else None for one in apart]
        columns["±"] = [one[1] if one else None for one in apart]
        columns["coherence with the prompt"] = [_mean(one.coherence) for one in samples.measured.values()]
    if mine.bert_score is not None:
        columns["BERTScore F1"] = [_mean(one.bert_score) for one in samples.measured.values()]
    if mine.self_bleu is not None:
        columns["self-BLEU"] = [one.self_bleu for one in samples.measured.values()]
    caption = "Coherence and BERTScore: higher is better. Self-BLEU: lower is more diverse."
    return Table("texts", caption, list(columns), list(zip(*columns.values(), strict=True)))


def _mean(values: Sequence[float] | None) -> float | None:
    return None if values is None else float(np.mean(values))


def _mean_difference(some: Sequence[float] | None, others: Sequence[float] | None) -> tuple[float, float] | None:
    """Return the mean of N paired differences and half its 95 % interval; None where not measured."""
    if some is None or others is None or some is others:
        return None
    apart = np.asarray(some) - np.asarray(others)
    error = float(apart.std(ddof=1)) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    return float(apart.mean()), CONFIDENT * error
