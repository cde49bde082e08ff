"""The answer of `refine`: the best mixture by truths and merges, and its lead over the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console

from objectives.agreement.statistics import Interval
from objectives.held_out import Floats
from pool.corpus.corpus import SPLITS
from pool.mixture import Mixture
from search.strategies.refine import Beliefs, beliefs_of
from search.trials import IMPORTED, STOPPED_BY, Counts, completed_trials, count_trials
from studies.answers.best import baseline_mixtures
from studies.answers.confirm import trained_loss
from studies.answers.score import Json
from studies.answers.tables import show_weights
from studies.assessment.fidelity.refine import Refinement, RefineRequest
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import REFINED
from studies.terminal import plain_table

LEVEL = 0.95


@dataclass(frozen=True)
class Lead:
    """A baseline: `ahead` is its value less the answer's, and `known` tells whether it was really trained."""

    mixture: Mixture
    ahead: Interval
    known: bool

    @property
    def told_apart(self) -> bool:
        return self.ahead.low > 0 or self.ahead.high < 0

    def as_json(self) -> Json:
        mixture = self.mixture.as_dict()
        return {"mixture": mixture, "ahead": self.ahead.as_json(), "known": self.known, "told_apart": self.told_apart}


@dataclass(frozen=True)
class Refined:
    """The best mixture by truths and merges.

    value: on the search split after training, free of the noise of a training.
    test: as measured on the test split, which chose nothing.
    first: value of the search's own best mixture, likewise.
    counts: of the trainings; `elsewhere` further truths came from other verbs.
    ended: why no more was trained.
    chance: the probability that another mixture is better by more than `margin`.
    noise: measured deviation of a training; None, supposed.
    """

    study: str
    mixture: Mixture
    value: Interval
    test: float
    first: Interval
    leads: Mapping[str, Lead]
    counts: Counts
    elsewhere: int
    truths: int
    ended: str
    chance: float
    margin: float
    noise: float | None

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "mixture": self.mixture.as_dict(),
            "value": self.value.as_json(),
            "test": self.test,
            "ahead_of_first": self.first.as_json(),
            "baselines": {name: lead.as_json() for name, lead in self.leads.items()},
            "counts": asdict(self.counts),
            "truths": {"budget": self.truths, "trained": self.counts.merges, "known": self.elsewhere},
            "ended": self.ended,
            "chance_of_better": self.chance,
            "margin": self.margin,
            "noise": self.noise,
        }


def conclude(bench: Workbench, wanted: RefineRequest) -> Refined:
    """Answer by the truths so far, and record the answer in the study, for `best` and all verbs after it."""
    refinement = Refinement.of(bench, wanted)
    study, merges, space = refinement.study, refinement.merges, bench.space
    done = completed_trials(study)
    beliefs = beliefs_of(done, merges)
    assert beliefs is not None, "the first training is awaited"
    best = space.project(beliefs.best)
    baselines = baseline_mixtures(bench)
    compared = {"": best, "first": refinement.searched, **baselines}
    weights = np.stack([one.over(space.names).array for one in compared.values()])
    drawn = _drawn(beliefs, weights, bench.config.search.seed)
    leads = {
        name: Lead(one, _interval(drawn[:, at] - drawn[:, 0]), refinement.truth.is_known(one))
        for at, (name, one) in enumerate(compared.items())
        if name in baselines
    }
    found = Refined(
        bench.config.name,
        best,
        _interval(drawn[:, 0]),
        refinement.truth.readings(best)["test"].value,
        _interval(drawn[:, 1] - drawn[:, 0]),
        leads,
        count_trials(study),
        sum(IMPORTED in trial.user_attrs for trial in done),
        wanted.truths,
        study.user_attrs.get(STOPPED_BY) or "the truths are spent",
        beliefs.chance_of_better(refinement.margin, bench.config.search.seed),
        refinement.margin,
        merges.noise,
    )
    for split in SPLITS:
        bench.losses[split](best)  # remembered, for a report merges and reads nothing
    if refinement.truth.is_known(best):
        trained_loss(bench)(best)
    refinement.main.set_user_attr(REFINED, found.as_json())
    return found


def _drawn(beliefs: Beliefs, weights: Floats, seed: int) -> Floats:
    for row in weights:
        if not beliefs.landscape.knows(row):
            beliefs.landscape.add(row)
    return beliefs.draws(weights, np.random.default_rng([seed, len(beliefs.truths)]))


def _interval(drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.median(drawn)), float(low), float(high))


def show_refined(console: Console, found: Refined) -> None:
    """Print the answer for people."""
    console.print(f"Best mixture of study {found.study}, by {found.counts.merges} trainings and the merges")
    show_weights(console, found.mixture)
    console.print(
        f"After training: {_shown(found.value)} on the search split, {found.test:.4f} measured on the test split"
    )
    table = plain_table("", "the best mixture is ahead by", "really trained")
    rows = {name.replace("_", " "): (lead.ahead, lead.known) for name, lead in found.leads.items()}
    for name, (ahead, known) in {**rows, "best of the search": (found.first, True)}.items():
        table.add_row(name, _shown(ahead), "yes" if known else "no, predicted")
    console.print(table)
    unclear = [name for name, (ahead, _) in rows.items() if not (ahead.low > 0 or ahead.high < 0)]
    console.print(
        f"Within chance (95 %): {', '.join(unclear)}." if unclear else "Every lead is beyond chance (95 %).",
        soft_wrap=True,
    )
    noise = "not measured, supposed" if found.noise is None else "measured"
    console.print(
        f"Trained {found.counts.merges} of {found.truths} (failed {found.counts.failed}), {found.elsewhere} more known "
        f"from other verbs; ended because {found.ended}.",
        soft_wrap=True,
    )
    console.print(
        f"Another mixture is better by more than {found.margin:.4f} with probability {found.chance:.0%} "
        f"(noise of a training: {noise}).",
        soft_wrap=True,
    )


def _shown(found: Interval) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
