"""The verb `refine`: really train the mixtures most worth knowing, and answer by truths and merges together.

The truths are a study of their own in the same database, NAME:refine, which the loop of `search` advances. So budget,
resuming and workers are the search's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.trial import TrialState

from objectives.held_out import Floats
from pool.corpus.corpus import SPLITS
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.mixture import Mixture
from pool.progress import say
from search.loop import Search
from search.space import Weights
from search.stop import StopRules
from search.strategies.designs import draw
from search.strategies.refine import MOST_MERGES, SAME, Merges, Settled, refining
from search.surrogates.surrogate import Observations
from search.trials import (
    GRADIENT,
    IMPORTED,
    START,
    Counts,
    completed_trials,
    count_trials,
    in_full,
    started_trials,
    value_of,
)
from studies.answers.confirm import trained_loss
from studies.assessment.fidelity.readings import Instruments
from studies.assessment.fidelity.trained_goal import TrainedGoal, known_noise
from studies.database.leases import exclusively
from studies.opened.identity import claim_identity
from studies.opened.on_pool import Workbench, one_loss_of
from studies.opened.opened_study import OpenedStudy, refinement_of, searched_mixture
from studies.running.evidence import imported_trial
from studies.running.plan import penalised
from studies.running.run import Budget, advance_kept
from studies.running.workers import Advancing

if TYPE_CHECKING:
    from pool.building.training.costs import Costs

ELSEWHERE = "truths of other verbs"
"""The source of truths that `refine` did not train."""


@dataclass(frozen=True)
class RefineRequest:
    """What `refine` is asked for.

    truths: trainings of the study in all.
    margin: a difference too small to matter; None, the noise of a training.
    chance: of a mixture better by more than the margin, at which the search ends.
    """

    truths: int
    margin: float | None = None
    chance: float = 0.05


@dataclass(frozen=True)
class Refinement:
    """A study's search among truths, opened."""

    bench: Workbench
    main: optuna.Study
    wanted: RefineRequest

    @classmethod
    def of(cls, bench: OpenedStudy, wanted: RefineRequest) -> Refinement:
        """Open it. Raises `StudyError` without a search, and `ConfigError` where truths have no value of the study."""
        checked = one_loss_of(bench, "`refine` compares trainings")
        main = checked.known_study()
        searched_mixture(checked, main)
        return cls(checked, main, wanted)

    @cached_property
    def instruments(self) -> Instruments:
        return Instruments.of(self.bench)

    @cached_property
    def truth(self) -> TrainedGoal:
        return TrainedGoal(self.instruments)

    @cached_property
    def merges(self) -> Merges:
        """What the study's merges say. Stopped evaluations are estimates, and left out."""
        done = in_full(completed_trials(self.main))
        space, objective = self.bench.space, penalised(self.bench, self.bench.objective)
        observations = Observations.of_gradients(
            space.weights_of_trials(done),
            [value_of(trial) for trial in done],
            [trial.user_attrs.get(GRADIENT) for trial in done],
        )
        return Merges(observations, lambda mixture: objective(mixture).value, space, self._members, self.noise)

    @cached_property
    def noise(self) -> float | None:
        return known_noise(self.instruments)

    @property
    def margin(self) -> float:
        return self.wanted.margin or self.merges.margin

    @cached_property
    def study(self) -> optuna.Study:
        """Open or make the study of truths, with the truths known elsewhere."""
        database = self.bench.database
        with exclusively(database.engine, database.address, "study"):
            study = optuna.create_study(
                storage=database.optuna, study_name=refinement_of(self.bench.config.name), load_if_exists=True
            )
            identity = self.bench.identity
            parts = {part: identity[part] for part in ("space", "floors", "prior", "kl")}
            claim_identity(study, {"truth": self.truth.digest, **parts})
            self._take_over(study)
        return study

    def search(self) -> Search:
        """Put the search together: the best of the merges comes first."""
        seed = self.bench.config.search.seed
        counted = TrainedGoal(self.instruments, self._place)
        stop = StopRules(settled=Settled(self.merges, self.margin, self.wanted.chance, seed))
        start = {} if self._is_known_truth(self._first) else {"best": self._first}
        return Search(
            penalised(self.bench, counted),
            self.bench.space,
            refining(self.merges),
            seed,
            None,
            start,
            stop=stop,
            retries=self.bench.config.search.retries,
        )

    @property
    def searched(self) -> Mixture:
        """The best mixture by the merges alone."""
        return searched_mixture(self.bench, self.main)

    def known_truths(self) -> list[tuple[Mixture, float]]:
        """List the mixtures that were really trained, with their truths."""
        truth = penalised(self.bench, self.truth)
        return [
            (one, truth(one).value) for one in self.truth.known(self.bench.space, (trained_loss(self.bench).digest,))
        ]

    @property
    def _first(self) -> Mixture:
        """The best merge that is no trained member."""
        members = self._members[0]
        done = in_full(completed_trials(self.main))
        for trial in sorted(done, key=value_of):
            mixture = self.bench.space.mixture_of(trial)
            if not (np.abs(members - mixture.array).max(axis=1) < SAME).any():
                return mixture
        return draw(self.bench.space, np.random.default_rng(0))

    def _is_known_truth(self, mixture: Mixture) -> bool:
        done = completed_trials(self.study)
        return mixture.digest in {self.bench.space.mixture_of(trial).digest for trial in done}

    def _place(self, mixture: Mixture) -> str:
        """Count the trainings up to a mixture's: the last of them, unless it was left by another worker."""
        own = [trial for trial in started_trials(self.study) if IMPORTED not in trial.user_attrs]
        space, at = self.bench.space, len(own)
        for place, trial in enumerate(own, start=1):
            begun = trial.state is TrialState.RUNNING and space.stands_for_mixture(trial)
            if begun and space.mixture_of(trial).digest == mixture.digest:
                at = place
        return f"{max(1, at)} of {self.wanted.truths}"

    @cached_property
    def _members(self) -> tuple[Weights, Floats]:
        """Weights and truths of the feasible members that are trained as truths are."""
        names, truth = self.bench.space.names, penalised(self.bench, self.truth)
        every = [Mixture.vertex(names, name) for name in names]
        known = [one for one in every if self.bench.space.contains(one) and self.truth.is_known(one)]
        weights = np.array([one.array for one in known]).reshape(-1, len(names))
        return weights, np.array([truth(one).value for one in known])

    def _take_over(self, study: optuna.Study) -> None:
        """Add the truths of other verbs that the study has not, as finished trials outside the budget."""
        space, truth = self.bench.space, penalised(self.bench, self.truth)
        trials = study.get_trials(deepcopy=False)
        there = {space.mixture_of(trial).digest for trial in trials if space.stands_for_mixture(trial)}
        for mixture in self.truth.known(space, (trained_loss(self.bench).digest,)):
            if mixture.digest not in there:
                found = truth(mixture)
                study.add_trial(
                    imported_trial(found, {START: f"truth:{mixture.digest}", IMPORTED: ELSEWHERE}, study, space)
                )


def advancing(name: str, wanted: RefineRequest) -> Advancing:
    """Describe the work for several workers."""
    return Advancing(refinement_of(name), wanted.truths, f"refine {name}", "truths", partial(run_refine, wanted=wanted))


def run_refine(bench: OpenedStudy, wanted: RefineRequest) -> Counts:
    """Train mixtures until the truths are spent or the answer is certain, with any other workers."""
    refinement = Refinement.of(bench, wanted)
    budget = Budget(wanted.truths, f"refine {bench.config.name}", "truths")
    if count_trials(refinement.study).merges < wanted.truths:
        say(f"{budget.what}: {refinement.bench.proxy.trainings_hold}")
    return advance_kept(bench, refinement.study, refinement.search(), budget)


def refine_costs(bench: Workbench, wanted: RefineRequest, engine: Engine = ONE_BY_ONE) -> Costs:
    """Measure the costs of the truths that are left; a search that ends by certainty costs less."""
    refinement = Refinement.of(bench, wanted)
    names = optuna.get_all_study_names(bench.database.optuna)
    done = 0
    if refinement_of(bench.config.name) in names:
        study = optuna.load_study(storage=bench.database.optuna, study_name=refinement_of(bench.config.name))
        done = count_trials(study).merges
    left = max(0, wanted.truths - done)
    rng = np.random.default_rng(0)
    mixtures = [draw(bench.space, rng) for _ in range(left)]
    from studies.running.costs import Work, costs_of  # loads torch

    work = Work(
        f"the refinement of study {bench.config.name!r} to {wanted.truths} truths",
        refinement.instruments.target,
        "search",
        runs=[refinement.truth.run(one) for one in mixtures],
        merges=left * MOST_MERGES,
        readings=left * len(SPLITS),
        notes=("the search ends sooner once no mixture is likely to be better",),
        remembered={"truths of the study": done},
    )
    return costs_of(bench, work, engine)
