"""Objectives that remember: an equal mixture is never merged twice under an equal objective."""

from __future__ import annotations

from collections.abc import Callable

from objectives.evaluation import Evaluation, Objective
from pool.engines.resources import processor_seconds
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.database.evaluations import EvaluationStore


class RememberedObjective:
    """An objective with a store of its evaluations.

    Of several workers with the same mixture, one computes and the others wait. A read-only store raises
    `NotRememberedError`. An evaluation stopped early is not kept: its value is an estimate.
    """

    foundation = None

    def __init__(self, objective: Objective, store: EvaluationStore) -> None:
        self._objective = objective
        self._store = store
        self._unkept: tuple[Evaluation, float] | None = None
        self.digest = objective.digest

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions of the objective within."""
        return self._objective.partitions

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Recall or evaluate."""
        return self._once(mixture, self._objective)

    @property
    def gradient(self) -> Callable[[Mixture], Evaluation] | None:
        """Recall or evaluate, with the gradient."""
        inner = self._objective.gradient
        return inner and (lambda mixture: self._once(mixture, inner, lambda found: found.gradient is not None))

    @property
    def challenge(self) -> Callable[[Mixture, Evaluation], Evaluation] | None:
        """Recall, or evaluate until the incumbent is clearly not beaten."""
        inner = self._objective.challenge
        return inner and (lambda mixture, best: self._once(mixture, lambda one: inner(one, best)))

    def recall(self, mixture: Mixture) -> Evaluation | None:
        """Return the remembered evaluation of a mixture, or None; never compute."""
        return self._store.find(self.digest, mixture, self._foundation(mixture))

    def _once(
        self,
        mixture: Mixture,
        compute: Callable[[Mixture], Evaluation],
        will_do: Callable[[Evaluation], bool] = lambda found: True,
    ) -> Evaluation:
        found = self.recall(mixture)
        if found and will_do(found):
            return found
        if self._store.only_recalls:
            raise NotRememberedError(f"mixture {mixture.as_dict()} was not evaluated before, and nothing new may be")
        with self._store.alone(self.digest, mixture):
            found = self.recall(mixture)  # by another worker, just now
            if found and will_do(found):
                return found
            evaluation, paid = self._computed(mixture, compute)
            if not evaluation.stopped_early:
                self._store.keep(evaluation, self._foundation(mixture), processor_seconds=paid)
            self._unkept = None
            return evaluation

    def _computed(self, mixture: Mixture, compute: Callable[[Mixture], Evaluation]) -> tuple[Evaluation, float]:
        """Compute, and measure processor seconds; not again where a lost database has not kept the last one."""
        if self._unkept is None or self._unkept[0].mixture.digest != mixture.digest:
            before = processor_seconds()
            self._unkept = compute(mixture), processor_seconds() - before
        return self._unkept

    def _foundation(self, mixture: Mixture) -> str | None:
        return self._objective.foundation and self._objective.foundation(mixture)
