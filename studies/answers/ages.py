"""The verb `ages`: whether the best mixture has settled, or still moves with the members' training.

Members kept on the way ([recipe] keep_every_steps) give the proxy at several ages, and at each a short search looks for
the best mixture. Its trials live in memory. Its merges are remembered, so a second call repeats it and merges nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from pydantic import TypeAdapter

from objectives.scoring.paired import PairedDifference
from pool.corpus.corpus import SPLITS, Split
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.progress import kept, track
from search.strategies.designs import spread
from search.trials import IMPORTED, START, best_trial, completed_trials, value_of
from studies.answers.score import Json, rank_correlation, score_of
from studies.opened.on_pool import Workbench, one_loss_of
from studies.opened.opened_study import OpenedStudy, searched_mixture
from studies.running.evidence import as_evidence, imported_trial
from studies.terminal import as_html

if TYPE_CHECKING:
    from objectives.evaluation import Objective
    from pool.building.training.costs import Costs

AGES = "mixscout:ages"
"""Attribute of a study with the answer of `ages`, as JSON."""
MERGES, PATIENCE, IMPROVES = 12, 4, 1e-4
"""Most merges of the search at an age, with gradients; it ends after so many that lower the value by no more."""
DESIGN, SMALL = 12, 0.03
"""Mixtures whose order is compared between ages; a regret below this share of their deviation is small, as noise is."""


@dataclass(frozen=True)
class Age:
    """The best mixture at one age of the members.

    value: on the search split, with its own sign.
    regret: value of the end's best mixture at this age, less `value`.
    regret_at_end: value of this best mixture at the end, less that of the end's best, by split.
    distance: total variation, sum |w - v| / 2, to the end's best mixture.
    spearman: of the design's values with those at the end; None, not defined.
    """

    steps: int
    tokens: int
    weights: Mapping[str, float]
    value: float
    regret: float
    regret_at_end: Mapping[Split, PairedDifference]
    distance: float
    spearman: float | None


@dataclass(frozen=True)
class Ages:
    """The best mixture by the age of the members.

    searched: the study's own best mixture, where the searches began.
    ages: by steps, the end last.
    merges: most merges of each search.
    margin: a regret too small to matter.
    schedule: of the members' learning rate.
    left_out: ages that some members lack.
    """

    study: str
    searched: Mapping[str, float]
    ages: Sequence[Age]
    merges: int
    margin: float
    schedule: str
    left_out: Sequence[int] = ()

    @property
    def end(self) -> Age:
        return self.ages[-1]

    @property
    def judged(self) -> Age:
        """The age nearest to half of the training, the earlier of two."""
        return min(self.ages[:-1], key=lambda age: abs(age.steps - self.end.steps / 2))

    @property
    def settled(self) -> bool:
        """Whether the best mixture of half the training does as well at the end, on the test split."""
        paired = self.judged.regret_at_end["test"]
        by_chance = not paired.told_apart and math.isfinite(paired.standard_error)
        return by_chance or paired.difference <= self.margin

    @property
    def verdict(self) -> str:
        paired, half = self.judged.regret_at_end["test"], f"at step {self.judged.steps} of {self.end.steps}"
        if not self.settled:
            return (
                f"NOT settled: at the members' end, the best mixture {half} is worse by {paired} than the best there "
                f"(test split; {self.margin:.4f} would be small). A longer training may prefer another mixture again."
            )
        small = "no worse" if paired.difference <= 0 else f"less than {self.margin:.4f}, which is small"
        return (
            f"Settled: at the members' end, the best mixture {half} is {paired.difference:+.4f} from the best there "
            f"(test split), {small if paired.difference <= self.margin else 'no more than chance'}."
        )

    def _repr_html_(self) -> str:
        from studies.answers.tables import show_ages  # knows this answer

        return as_html(lambda console: show_ages(console, self))

    def as_json(self) -> Json:
        found, said = asdict(self), {"settled": self.settled, "judged": self.judged.steps, "verdict": self.verdict}
        for age, shown in zip(self.ages, found["ages"], strict=True):
            for split, paired in age.regret_at_end.items():
                shown["regret_at_end"][split]["told_apart"] = paired.told_apart
        return {**found, **said}


def remembered_ages(bench: OpenedStudy, study: optuna.Study) -> Ages | None:
    """Return the answer of `ages` for the study's best mixture; None where it was not asked for since."""
    kept_ages = study.user_attrs.get(AGES)
    found = TypeAdapter(Ages).validate_python(kept_ages) if kept_ages else None
    return found if found and found.searched == searched_mixture(bench, study).as_dict() else None


def doubts_of_ages(bench: OpenedStudy, study: optuna.Study) -> list[str]:
    """Say that the best mixture has not settled, where the ages were measured."""
    found = remembered_ages(bench, study)
    return [] if found is None or found.settled else [f"{found.verdict} `mixscout ages` shows more."]


@dataclass(frozen=True)
class _View:
    """The members at an age."""

    pool: Pool
    steps: int

    @property
    def tokens(self) -> int:
        return max(member.tokens or 0 for member in self.pool.manifest.members.values())


@dataclass(frozen=True)
class _Found:
    """The best mixture of an age, its value, and the values there of the end's best and of the design."""

    best: Mixture
    value: float
    of_end: float
    design: Sequence[float]


def run_ages(bench: Workbench, study: optuna.Study, merges: int = MERGES) -> Ages:
    """Search at every age, compare with the end, and record the answer in the study.

    Raises `ConfigError` for a study of several losses or of one age, and for members without common ages; `StudyError`
    before the first evaluation.
    """
    work = _Work(bench, study, merges)
    views, left_out = _views(bench)
    found = work.all_found(views)
    ends = found[-1]
    at_end = work.at_end(views[-1], [one.best for one in found])
    ages = [
        Age(
            view.steps,
            view.tokens,
            one.best.as_dict(),
            bench.target.shown(one.value),
            one.of_end - one.value,
            paired,
            float(np.abs(one.best.array - ends.best.array).sum() / 2),
            rank_correlation(one.design, ends.design),
        )
        for view, one, paired in zip(views, found, at_end, strict=True)
    ]
    margin, end = SMALL * float(np.std(ends.design)), views[-1].pool.config.recipe
    answer = Ages(bench.config.name, work.searched.as_dict(), ages, merges, margin, end.schedule, left_out)
    if study.user_attrs.get(AGES) != (record := json.loads(json.dumps(asdict(answer)))):
        study.set_user_attr(AGES, record)
    return answer


@dataclass(frozen=True)
class _Work:
    bench: Workbench
    study: optuna.Study
    merges: int

    @cached_property
    def searched(self) -> Mixture:
        return searched_mixture(self.bench, self.study)

    @cached_property
    def design(self) -> Sequence[Mixture]:
        """Mixtures far from each other, the same whatever the search has found."""
        try:
            return spread(self.bench.space, DESIGN, seed=self.bench.config.search.seed, before=[])
        except ValueError as error:
            raise ConfigError(f"[space] {error}") from None

    def all_found(self, views: Sequence[_View]) -> list[_Found]:
        """Search at the end first, then at each age from the best of the next: the best moves little at a time."""
        name, own = self.bench.config.name, as_evidence(self.study)
        with kept(lambda: f"kept: merges for the ages of {name}"), track(f"ages {name}", len(views)) as show:
            found = [self._found(views[-1], {"searched": self.searched}, own)]
            for view in reversed(views[:-1]):
                show(len(found), f"step {view.steps} of {views[-1].steps}")
                found.append(self._found(view, {"end": found[0].best, "next": found[-1].best}, []))
            show(len(found), "")
        return found[::-1]

    def _found(self, view: _View, start: Mapping[str, Mixture], evidence: Sequence[FrozenTrial]) -> _Found:
        from search.loop import Search, advance  # loads SciPy
        from search.stop import StopRules
        from search.strategies.auto import AUTO

        objective, space = self._losses(view)["search"], self.bench.space
        trials = optuna.create_study(directions=self.study.directions)
        values = []
        for number, mixture in enumerate(self.design):
            found = replace(objective(mixture), gradient=None)  # a gradient known since would change the proposals
            values.append(found.value)
            trials.add_trial(imported_trial(found, {START: f"design:{number}", IMPORTED: "design"}, trials, space))
        trials.add_trials(evidence)
        stop, config = StopRules(patience=PATIENCE, min_improvement=IMPROVES), self.bench.config.search
        search = Search(objective, space, AUTO, config.seed, None, start, stop=stop, retries=config.retries)
        advance(trials, search, self.merges)
        best = best_trial(completed_trials(trials))
        assert best is not None, "the design has values"
        mixture = space.mixture_of(best)
        return _Found(mixture, value_of(best), objective(start.get("end", mixture)).value, values)

    def at_end(self, end: _View, mixtures: Sequence[Mixture]) -> list[dict[Split, PairedDifference]]:
        """Compare mixtures, the end's best last, by the members' end."""
        compared: list[dict[Split, PairedDifference]] = [{} for _ in mixtures]
        for split, objective in self._losses(end).items():
            found = [objective(mixture) for mixture in mixtures]
            best = score_of(self.bench, found[-1], split)
            for one, evaluation in zip(compared, found, strict=True):
                paired = score_of(self.bench, evaluation, split).behind(best)
                one[split] = replace(paired, difference=evaluation.value - found[-1].value)  # with a penalty, if any
        return compared

    def _losses(self, view: _View) -> dict[Split, Objective]:
        """Return the losses of an age by split; its members are let go with them."""
        from studies.running.plan import penalised  # loads SciPy

        proxy, store = replace(self.bench.proxy, pool=view.pool), self.bench.database.evaluations
        return {split: penalised(self.bench, one) for split, one in proxy.remembered(self.bench.goals, store).items()}


def ages_costs(bench: Workbench, study: optuna.Study, merges: int = MERGES) -> Costs:
    """Measure the costs of `run_ages` on a study opened privately, at most; nothing for an answer that is there."""
    known, views = remembered_ages(bench, study), _views(bench)[0]
    left = 0 if known and known.merges == merges else len(views)
    from studies.running.costs import Work, costs_of  # loads torch

    work = Work(
        f"the ages of study {bench.config.name!r}",
        bench.target,
        "search",
        merges=left * (DESIGN + len(SPLITS)),
        gradients=left * merges,
        notes=("the search at an age ends sooner once nothing is gained; what is remembered is not merged again",),
        remembered={"ages": len(views) - left},
    )
    return costs_of(bench, work)


def _views(bench: Workbench) -> tuple[list[_View], list[int]]:
    """List the ages that all members have, the end last, and the ages that some lack. Raises `ConfigError`."""
    pool, age = one_loss_of(bench, "`ages` compares merges").proxy.pool, bench.config.objective.member_age
    if age is not None:
        raise ConfigError(
            f"study {bench.config.name!r} merges members of age {age}, and `ages` compares all ages with the members' "
            "end: take [objective] member_age out of the study file"
        )
    members = pool.manifest.members.values()
    aged = [_View(one, steps) for steps, one in pool.at_all_ages().items()]
    ended = min(member.tokens or 0 for member in members)  # early stopping may keep what came before an age
    before = [view for view in aged if view.tokens < ended]
    if not before:
        raise ConfigError(f"a member of pool {pool.config.name!r} ended before the first age that all members kept")
    end = _View(pool, 0).tokens * before[0].steps // before[0].tokens
    lacking = {steps for member in members for steps in member.ages} - {view.steps for view in aged}
    return [*before, _View(pool, end)], sorted(lacking)
