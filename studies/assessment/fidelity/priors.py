"""The verb `prior`: mixtures from text alone, and how far text ranks what was merged and trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import get_args

import numpy as np
import optuna
from rich.console import Console

from objectives.held_out import Floats
from pool.corpus.corpus import Split
from pool.errors import ConfigError
from pool.mixture import Mixture
from search.trials import completed_trials, value_of
from studies.answers.score import rank_correlation
from studies.answers.tables import weights_in_words
from studies.assessment.fidelity.readings import VALUE, Instruments
from studies.assessment.fidelity.truths import known_truths
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import OpenedStudy
from studies.opened.text_priors import COUNTED, DESCRIPTIONS, READ
from studies.running.plan import named_mixtures
from studies.study_file.search_sections import TextPrior
from studies.terminal import as_html, digits, json_text, plain_table

LEAST_TO_JUDGE = 6
"""Mixtures from which rank correlations are given."""
BESIDE = {
    "uniform": "every partition alike",
    "proportional": "by the tokens of partitions",
    "unimax": "as even as a budget allows",
}
"""Mixtures without text, judged beside the priors."""
MERGE = "the merge"


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
    """A mixture known before any training; `merges` and `truths`: how it ranks evaluated and trained mixtures.

    mixture: None for the merge, which stands beside the priors.
    """

    name: str
    mixture: Mixture | None
    merges: Judged | None
    truths: Judged | None

    @property
    def what(self) -> str:
        """The prior in words."""
        words: dict[str, str] = {**BESIDE, MERGE: "merges of members"}
        return next((what for name, what in DESCRIPTIONS.items() if name == self.name), words.get(self.name, ""))

    def as_json(self) -> dict[str, object]:
        judged = {"merges": self.merges, "truths": self.truths}
        return {
            "name": self.name,
            "what": self.what,
            "mixture": self.mixture and self.mixture.as_dict(),
            **{key: one and asdict(one) for key, one in judged.items()},
        }


@dataclass(frozen=True)
class Known:
    """N mixtures of known values (N,), lower for better; `merged`: the values of their merges, where remembered."""

    mixtures: Sequence[Mixture] = ()
    values: Floats = field(default_factory=lambda: np.empty(0))
    merged: Floats | None = None


@dataclass(frozen=True)
class Priors:
    """The priors of a study: from text first, then those without text, and the merge where it can be judged."""

    study: str
    priors: Sequence[JudgedPrior]

    def as_json(self) -> list[dict[str, object]]:
        return [one.as_json() for one in self.priors]

    def _repr_html_(self) -> str:
        return as_html(lambda console: show_priors(console, self))


def find_priors(bench: OpenedStudy, *, counted: bool = False) -> Priors:
    """Compute every prior of a study on a pool; with `counted`, only those that need no model.

    Raises `ConfigError` without text, or where losses are maximised.
    """
    if not isinstance(bench, Workbench):
        raise ConfigError(
            f"study {bench.config.name!r} is on a table of models already trained, which has no text: give a study "
            "with pool = FILE"
        )
    names = [name for name in DESCRIPTIONS if not (counted and name in READ)]
    merged, trained = _merged(bench), _trained(bench)
    return Priors(bench.config.name, _judged_priors(bench, names, merged, trained))


def judge_priors(bench: Workbench, known: Known) -> Sequence[JudgedPrior]:
    """Judge every prior, and the merge beside them, by mixtures really trained."""
    return _judged_priors(bench, list(DESCRIPTIONS), Known(), known)


def _judged_priors(
    bench: Workbench, names: Sequence[TextPrior], merged: Known, trained: Known
) -> Sequence[JudgedPrior]:
    text = {name: bench.space.project(bench.text.mixture(name).over(bench.space.names).array) for name in names}
    beside = {name: named_mixtures(name, bench)[name] for name in ("uniform", "proportional", "unimax")}
    found = []
    for name, mixture in [*text.items(), *beside.items()]:
        ranks = [_ranks(bench, name, mixture, known.mixtures) for known in (merged, trained)]
        found.append(
            JudgedPrior(name, mixture, Judged.of(ranks[0], merged.values), Judged.of(ranks[1], trained.values))
        )
    merge = None if trained.merged is None else Judged.of(trained.merged, trained.values)
    return [*found, *([JudgedPrior(MERGE, None, None, merge)] if merge else [])]


def _ranks(bench: Workbench, name: str, mixture: Mixture, mixtures: Sequence[Mixture]) -> Floats:
    """Rank mixtures (N,) by the loss of the target's n-grams, or by their distance from a prior without a loss."""
    if not mixtures:
        return np.empty(0)
    for kind in COUNTED:
        if kind == name:
            return bench.text.losses(kind, mixtures)
    weights = np.stack([one.over(mixture.names).array for one in mixtures])
    return np.asarray(np.abs(weights - mixture.array).sum(axis=1))


def _merged(bench: Workbench) -> Known:
    """Return the study's evaluated mixtures with their values; none before a search, or of several targets."""
    if bench.several or bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return Known()
    done = completed_trials(bench.known_study())
    return Known([bench.space.mixture_of(trial) for trial in done], np.array([value_of(trial) for trial in done]))


def _trained(bench: Workbench) -> Known:
    """Return the mixtures that `fidelity` or `refine` trained with their values on the search split."""
    if bench.several or bench.config.downstream:
        return Known()
    instruments = Instruments.of(bench)
    truths = known_truths(instruments)
    if not truths.mixtures:
        return Known()
    mixtures = list(truths.mixtures.values())
    return Known(mixtures, np.asarray(truths.readings["search"][VALUE]), _recalled(instruments, mixtures, "search"))


def _recalled(instruments: Instruments, mixtures: Sequence[Mixture], split: Split) -> Floats | None:
    """Return the values (N,) of merges; None where one is not remembered."""
    loss = instruments.proxy_loss(split)
    found = [one for mixture in mixtures if (one := loss.recall(mixture))]
    return np.asarray(instruments.read(split, found)[VALUE]) if len(found) == len(mixtures) else None


def show_priors(console: Console, found: Priors) -> None:
    console.print("Mixtures from text alone: text of the partitions beside that of the goal's held-out domains")
    for one in found.priors:
        if one.mixture is not None:
            console.print(f"{one.name}, {one.what}:\n  {weights_in_words(one.mixture)}", soft_wrap=True)
    if any(one.merges or one.truths for one in found.priors):
        console.print("\nHow they rank mixtures of known value (regret: of the one ranked first)")
        show_judged(console, found.priors)
    names = ", ".join(json_text(one.name) for one in found.priors if one.name in get_args(TextPrior))
    console.print(f"to begin a search at them: [search] start = [{names}]", markup=False, soft_wrap=True)


def show_judged(console: Console, priors: Sequence[JudgedPrior]) -> None:
    """Show a row for each prior and kind of known mixtures."""
    table = plain_table("prior", "mixtures", "number", "Spearman", "regret", left=2)
    for one in priors:
        kinds: Mapping[str, Judged | None] = {"merged": one.merges, "really trained": one.truths}
        for kind, judged in kinds.items():
            if judged is not None:
                figures = (str(judged.mixtures), digits(judged.spearman, ".3f"), f"{judged.regret:.4f}")
                table.add_row(one.name, kind, *figures)
    console.print(table)
