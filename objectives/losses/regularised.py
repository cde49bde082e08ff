"""An objective near a prior mixture: the value plus a strength times KL(w || prior).

The held-out losses of an evaluation stay without the penalty. So evaluations never stop early: the test compares
losses.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from objectives.evaluation import Evaluation, Objective
from objectives.held_out import Floats
from pool.files.digests import digest_json
from pool.mixture import Mixture

SMALLEST_WEIGHT = 1e-6
"""The derivative log(w / p) + 1, minus infinity at w = 0, is taken at no smaller weight."""


class RegularisedLoss:
    """Adds `strength` (>= 0, in the objective's measure per nat) times KL(w || prior) to an objective.

    The prior must be above zero wherever a mixture is. Raises `ValueError` for a negative strength.
    """

    challenge = foundation = None

    def __init__(self, objective: Objective, prior: Mixture, strength: float) -> None:
        if strength < 0:
            raise ValueError(f"the strength of a penalty must be 0 or more: got {strength!r}")
        self._objective = objective
        self._prior = prior.over(objective.partitions)
        self._strength = strength
        self.digest = digest_json(
            {"regularised": objective.digest, "prior": self._prior.as_dict(), "strength": float(strength)}
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._objective.partitions

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate the inner objective and add the penalty. Raises `ValueError` for an infinite penalty."""
        return self._penalised(self._objective(mixture))

    @property
    def gradient(self) -> Callable[[Mixture], Evaluation] | None:
        """Evaluate with the gradient of value and penalty."""
        inner = self._objective.gradient
        return inner and (lambda mixture: self._penalised(inner(mixture)))

    def _penalised(self, evaluation: Evaluation) -> Evaluation:
        w, p = evaluation.mixture.array, self._prior.over(evaluation.mixture.names).array
        penalty = self._strength * divergence(w, p)
        gradient = evaluation.gradient
        if gradient is not None:
            gradient = tuple((np.array(gradient) + self._strength * divergence_slopes(w, p)).tolist())
        return replace(
            evaluation,
            value=evaluation.value + penalty,
            values=tuple(value + penalty for value in evaluation.values),
            gradient=gradient,
            objective_digest=self.digest,
        )


def regularised(objective: Objective, prior: Mixture, strength: float) -> Objective:
    """Add a penalty to an objective; with strength 0, return the objective itself."""
    return RegularisedLoss(objective, prior, strength) if strength else objective


def divergence(w: Floats, p: Floats) -> float:
    """Return KL(w || p) = sum w log(w / p) in nats over (K,), with 0 log 0 = 0. Raises `ValueError` for infinity."""
    used = w > 0
    if (p[used] <= 0).any():
        raise ValueError("the divergence from a prior is infinite where the prior is 0 and the mixture is not")
    return float(w[used] @ np.log(w[used] / p[used]))


def divergence_slopes(w: Floats, p: Floats) -> Floats:
    """Return d KL(w || p) / d w = log(w / p) + 1 (K,), w at least `SMALLEST_WEIGHT`; 0 for a prior of 0."""
    slopes = np.zeros_like(w)
    known = p > 0
    slopes[known] = np.log(np.maximum(w[known], SMALLEST_WEIGHT) / p[known]) + 1.0
    return slopes
