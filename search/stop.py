"""Rules to stop before the budget of merges is spent; the first to hold stops the search and says why.

All but the clock depend on the study's trials alone, so a resumed study stops at the same trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.space import CappedSimplex
from search.strategies.surrogate import evidence_of, expected_improvement
from search.surrogates.surrogate import Floats, Surrogate
from search.trials import START, STOPPED_EARLY, TOKENS_READ

CANDIDATES = 4096
"""Random mixtures over which the expected improvement is maximised."""


@dataclass(frozen=True)
class ExpectedImprovement:
    """Stops once no random mixture of the space promises more than `below`, by a surrogate of its own.

    The rule is silent before `min_evidence` evaluations. Single objective only.
    """

    below: float
    surrogate: Surrogate
    space: CappedSimplex
    min_evidence: int
    seed: int

    @cached_property
    def candidates(self) -> Floats:
        points = np.random.default_rng(self.seed).random((CANDIDATES, len(self.space.names)))
        return self.space.weights_of(points)

    def best(self, trials: Sequence[FrozenTrial]) -> float | None:
        """Return the largest expected improvement on the lowest value yet; None from too little evidence."""
        observations = evidence_of(trials, self.space)
        if observations is None or len(observations) < self.min_evidence:
            return None
        self.surrogate.fit(observations)
        prediction = self.surrogate.predict(self.candidates)
        return float(expected_improvement(prediction, float(observations.values.min())).max())


@dataclass(frozen=True)
class StopRules:
    """Reasons to stop; None turns one off.

    seconds: of this command.
    tokens: read by the study in all.
    patience: merges in a row, without the start design, improving by no more than `min_improvement`.
    expected_improvement: the rule above.
    settled: another rule, in words: from the finished trials by number to a reason, or None.

    Raises `ValueError` for limits not above zero.
    """

    seconds: float | None = None
    tokens: int | None = None
    patience: int | None = None
    min_improvement: float = 0.0
    expected_improvement: ExpectedImprovement | None = None
    settled: Callable[[Sequence[FrozenTrial]], str | None] | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "tokens", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0: got {value!r}; leave it out for no such rule")
        if not self.min_improvement >= 0:
            raise ValueError(f"min_improvement must be 0 or more: got {self.min_improvement!r}")

    def reason(self, trials: Sequence[FrozenTrial], seconds: float) -> str | None:
        """Say why to stop, given the finished trials by number and the seconds of this command; None to go on."""
        if self.seconds is not None and seconds >= self.seconds:
            return f"seconds: {self.seconds:g} have passed"
        if self.tokens is not None and tokens_read(trials) >= self.tokens:
            return f"tokens: {tokens_read(trials)} of {self.tokens} held-out tokens are read"
        if self.patience is not None and merges_without_improvement(trials, self.min_improvement) >= self.patience:
            return f"patience: {self.patience} merges improved by no more than {self.min_improvement:g}"
        rule = self.expected_improvement
        best = rule.best(trials) if rule else None
        if rule is None or best is None or best >= rule.below:
            return self.settled(trials) if self.settled else None
        return f"expected improvement: {best:.3g} at best, below {rule.below:g}"


def tokens_read(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.user_attrs.get(TOKENS_READ, 0) for trial in trials)


def merges_without_improvement(trials: Sequence[FrozenTrial], min_improvement: float) -> int:
    """Count the merges since the last improvement on all earlier ones by more than `min_improvement`.

    With several objectives one of them has to improve. Evaluations stopped early improve nothing: their values are
    estimates.
    """
    improvements: list[Sequence[float]] = []
    count = 0
    for trial in trials:
        if trial.state is TrialState.PRUNED:
            continue
        if _improves(trial, improvements, min_improvement):
            improvements.append(trial.values)
            count = 0
        elif START not in trial.user_attrs:
            count += 1
    return count


def _improves(trial: FrozenTrial, improvements: Sequence[Sequence[float]], by: float) -> bool:
    if trial.state is not TrialState.COMPLETE or trial.user_attrs.get(STOPPED_EARLY):
        return False
    return all(any(new < old - by for new, old in zip(trial.values, before, strict=True)) for before in improvements)
