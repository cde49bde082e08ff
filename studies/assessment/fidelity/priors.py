"""The verb `prior`: mixtures from text alone, and how far text ranks what was merged and trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import optuna
from rich.console import Console

from pool.errors import ConfigError
from pool.mixture import Mixture
from search.strategies.text_priors import Floats
from search.trials import completed_trials, value_of
from studies.answers.score import rank_correlation
from studies.answers.tables import weights_in_words
from studies.assessment.fidelity.readings import VALUE, Instruments
from studies.assessment.fidelity.truths import known_truths
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import OpenedStudy
from studies.opened.text_priors import DESCRIPTIONS, TextPriors
from studies.study_file.sections import TextPrior
from studies.terminal import json_text, plain_table

LEAST_TO_JUDGE = 6
"""Mixtures from which rank correlations are given."""


@dataclass(frozen=True)
class Judged:
    """How a prior ranks mixtures of known value.

    spearman: of the text's loss and the value; for a prior without a loss, of the distance from its mixture.
    regret: value of the mixture ranked first less the lowest, in the study's measure.
    """

    mixtures: int
    spearman: float | None
    regret: float

    @classmethod
    def of(cls, ranks: Floats, values: Floats) -> Judged | None:
        """Judge ranks (N,) by values (N,), both lower for better; None for too few."""
        if len(values) < LEAST_TO_JUDGE:
            return None
        found = rank_correlation(ranks.tolist(), values.tolist())
        return cls(len(values), found, float(values[int(np.argmin(ranks))] - values.min()))


@dataclass(frozen=True)
class JudgedPrior:
    """A mixture from text alone; `merges` and `truths`: how it ranks the study's evaluated and trained mixtures."""

    name: TextPrior
    mixture: Mixture
    merges: Judged | None
    truths: Judged | None

    def as_json(self) -> dict[str, object]:
        judged = {"merges": self.merges, "truths": self.truths}
        return {
            "name": self.name,
            "what": DESCRIPTIONS[self.name],
            "mixture": self.mixture.as_dict(),
            **{key: one and asdict(one) for key, one in judged.items()},
        }


def find_priors(bench: OpenedStudy) -> list[JudgedPrior]:
    """Compute every prior of a study on a pool. Raises `ConfigError` without text, or where losses are maximised."""
    if not isinstance(bench, Workbench):
        raise ConfigError(
            f"study {bench.config.name!r} is on a table of models already trained, which has no text: give a study "
            "with pool = FILE"
        )
    text = TextPriors.of(bench.proxy.pool, bench.target.targets)
    merged, trained = _merged(bench), _trained(bench)
    found = []
    for name in DESCRIPTIONS:
        mixture = bench.space.project(text.mixture(name).over(bench.space.names).array)
        judged = [_judged(text, name, mixture, known) for known in (merged, trained)]
        found.append(JudgedPrior(name, mixture, *judged))
    return found


_Known = tuple[Sequence[Mixture], Floats]


def _judged(text: TextPriors, name: TextPrior, mixture: Mixture, known: _Known) -> Judged | None:
    mixtures, values = known
    if not len(values):
        return None
    if name == "importance":
        weights = np.stack([one.over(mixture.names).array for one in mixtures])
        ranks: Floats = np.abs(weights - mixture.array).sum(axis=1)
    else:
        ranks = text.losses(name, mixtures)
    return Judged.of(ranks, values)


def _merged(bench: Workbench) -> _Known:
    """Return the study's evaluated mixtures with their values; none before a search, or of several targets."""
    if bench.several or bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return [], np.empty(0)
    done = completed_trials(bench.known_study())
    return [bench.space.mixture_of(trial) for trial in done], np.array([value_of(trial) for trial in done])


def _trained(bench: Workbench) -> _Known:
    """Return the mixtures that `fidelity` or `refine` trained with their values on the search split."""
    if bench.several or bench.config.downstream:
        return [], np.empty(0)
    truths = known_truths(Instruments.of(bench))
    if not truths.mixtures:
        return [], np.empty(0)
    return list(truths.mixtures.values()), np.asarray(truths.readings["search"][VALUE])


def show_priors(console: Console, priors: Sequence[JudgedPrior]) -> None:
    console.print("Mixtures from text alone: n-grams of the partitions beside those of the goal's held-out domains")
    for one in priors:
        console.print(f"{one.name}, {DESCRIPTIONS[one.name]}:\n  {weights_in_words(one.mixture)}", soft_wrap=True)
    rows = [(one, what, judged) for one in priors for what, judged in _judgements(one) if judged is not None]
    if rows:
        console.print("\nHow they rank mixtures of known value (regret: of the one ranked first)")
        table = plain_table("prior", "mixtures", "number", "Spearman", "regret", left=2)
        for one, what, judged in rows:
            found = "none" if judged.spearman is None else f"{judged.spearman:.3f}"
            table.add_row(one.name, what, str(judged.mixtures), found, f"{judged.regret:.4f}")
        console.print(table)
    names = ", ".join(json_text(one.name) for one in priors)
    console.print(f"to begin a search at them: [search] start = [{names}]", markup=False, soft_wrap=True)


def _judgements(one: JudgedPrior) -> Sequence[tuple[str, Judged | None]]:
    return ("merged", one.merges), ("really trained", one.truths)
