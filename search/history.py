"""The loop's view of a study, in the order of trial numbers: a look costs as much as its new trials."""

from __future__ import annotations

import math
from bisect import bisect_right, insort

import optuna
from optuna.trial import FrozenTrial, TrialState

from pool.mixture import Mixture
from search.gate import Evidence
from search.space import CappedSimplex
from search.trials import Counts, as_minimised, count_of, signs_of, value_of


class History:
    """The trials of one study at the last look, with their mixtures in `space`."""

    def __init__(self, study: optuna.Study, space: CappedSimplex) -> None:
        self.running: list[FrozenTrial] = []
        """Trials asked for and not finished, by number."""
        self.ended: list[FrozenTrial] = []
        """Completed and failed trials by number: all but the pruned ones."""
        self._study = study
        self._signs = signs_of(study)
        self._space = space
        self._read = 0
        self._unfinished: list[int] = []
        self._pruned: list[int] = []
        self._counts = Counts()
        self._lowest = math.inf
        self._evidence: Evidence | None = None
        self._mixtures: dict[int, Mixture] = {}

    def look(self) -> None:
        """Read the trials that are new or unfinished since the last look; finished trials never change."""
        trials = self._study.get_trials(deepcopy=False)
        looked_at = [*self._unfinished, *range(self._read, len(trials))]
        self._read = len(trials)
        self._unfinished = [at for at in looked_at if not trials[at].state.is_finished()]
        self.running = [trials[at] for at in self._unfinished if trials[at].state is TrialState.RUNNING]
        finished = as_minimised([trials[at] for at in looked_at if trials[at].state.is_finished()], self._signs)
        for trial in finished:
            if trial.state is TrialState.PRUNED:
                insort(self._pruned, trial.number)
            else:
                insort(self.ended, trial, key=lambda one: one.number)
        new = [trial for trial in finished if trial.state is not TrialState.PRUNED]
        if new:
            self._counts = self._counts.plus(count_of(new, pruned=0), self.ended)
            values = [value_of(trial) for trial in new if trial.state is TrialState.COMPLETE]
            self._lowest = min([self._lowest, *values])
            self._evidence = None

    @property
    def completed(self) -> list[FrozenTrial]:
        return [trial for trial in self.ended if trial.state is TrialState.COMPLETE]

    @property
    def counts(self) -> Counts:
        return self._counts.with_pruned(len(self._pruned))

    @property
    def evidence(self) -> Evidence:
        if self._evidence is None:
            completed = self.completed
            for trial in completed:
                if trial.number not in self._mixtures:
                    self._mixtures[trial.number] = self._space.mixture_of(trial)
            self._evidence = Evidence.of_mixtures(completed, [self._mixtures[trial.number] for trial in completed])
        return self._evidence

    @property
    def lowest(self) -> float:
        """The lowest value; infinite before the first."""
        return self._lowest

    @property
    def pruned_in_a_row(self) -> int:
        """The number of pruned trials at the end."""
        last = self.ended[-1].number if self.ended else -1
        return len(self._pruned) - bisect_right(self._pruned, last)
