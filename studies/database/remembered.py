"""What was evaluated is remembered: an equal mixture is never merged twice under an equal objective."""

from __future__ import annotations

from collections.abc import Callable

from objectives.evaluation import (
    DifferentiableObjective,
    Evaluation,
    Founded,
    Objective,
    SequentialObjective,
)
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.database.evaluations import EvaluationStore


class RememberedObjective:
    """An objective that looks into the store before it computes, and keeps what it computed.

    Of several workers that want the same mixture one computes it, and the others wait for that. With a store that only
    recalls, what is not remembered raises `NotRememberedError`.
    """

    def __init__(self, objective: Objective, store: EvaluationStore) -> None:
        self._objective = objective
        self._store = store
        self._unkept: Evaluation | None = None
        self.digest = objective.digest

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions of the objective within."""
        return self._objective.partitions

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Recall or evaluate."""
        return self._once(mixture, self._objective)

    def recall(self, mixture: Mixture) -> Evaluation | None:
        """Return what is remembered of a mixture, or None; never compute."""
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
            evaluation = self._computed(mixture, compute)
            if not evaluation.stopped_early:  # its value would be an estimate
                self._store.keep(evaluation, self._foundation(mixture))
            self._unkept = None
            return evaluation

    def _computed(self, mixture: Mixture, compute: Callable[[Mixture], Evaluation]) -> Evaluation:
        """Compute, unless that was done just now and the database was away when it was to be kept."""
        if self._unkept is None or self._unkept.mixture.digest != mixture.digest:
            self._unkept = compute(mixture)
        return self._unkept

    def _foundation(self, mixture: Mixture) -> str | None:
        return self._objective.foundation(mixture) if isinstance(self._objective, Founded) else None


class RememberedDifferentiableObjective(RememberedObjective):
    """The same, for an objective with gradients; what was remembered without one is computed again for it."""

    def __init__(self, objective: DifferentiableObjective, store: EvaluationStore) -> None:
        super().__init__(objective, store)
        self._differentiable = objective

    def gradient(self, mixture: Mixture) -> Evaluation:
        """Recall or evaluate, with the gradient."""
        return self._once(mixture, self._differentiable.gradient, lambda found: found.gradient is not None)


class RememberedSequentialObjective(RememberedDifferentiableObjective):
    """The same, for an objective that can stop early; what stopped early is not kept: its value is an estimate."""

    def __init__(self, objective: SequentialObjective, store: EvaluationStore) -> None:
        assert isinstance(objective, DifferentiableObjective), "what stops early has gradients too"
        super().__init__(objective, store)
        self._sequential = objective

    def challenge(self, mixture: Mixture, incumbent: Evaluation) -> Evaluation:
        """Recall, or evaluate until it is clear that the incumbent is not beaten."""
        return self._once(mixture, lambda one: self._sequential.challenge(one, incumbent))


def remembered(objective: Objective, store: EvaluationStore) -> RememberedObjective:
    """Wrap an objective so that it remembers; gradients and early stopping stay available where they are."""
    if isinstance(objective, SequentialObjective) and isinstance(objective, DifferentiableObjective):
        return RememberedSequentialObjective(objective, store)
    if isinstance(objective, DifferentiableObjective):
        return RememberedDifferentiableObjective(objective, store)
    return RememberedObjective(objective, store)
