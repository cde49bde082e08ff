"""What our own samplers share: each is a function from the study's finished trials to the next point."""

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.space import CappedSimplex, Weights
from search.trials import started_trials

Propose = Callable[[Sequence[FrozenTrial], CappedSimplex, int], Weights | None]
"""(trials by number, with the running ones where they are shown, space, seed) -> a point (K,) of the cube, or None when
a random one is due."""


class ReplayingSampler(BaseSampler):
    """Keeps no state: it replays the study's trials, so a killed search proposes again what it had proposed."""

    def __init__(self, space: CappedSimplex, seed: int, propose: Propose) -> None:
        self._space = space
        self._seed = seed
        self._propose = propose

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Give the space's parameters."""
        return dict(self._space.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, float]:
        """Propose all parameters at once; a uniform point of the cube where the function has nothing to say."""
        if not search_space:
            return {}
        point = self._propose(started_trials(study), self._space, self._seed)
        if point is None:
            point = np.random.default_rng([self._seed, trial.number]).random(len(self._space.names))
        return self._space.parameters_of(point)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> object:
        """Refuse: every parameter is proposed with the others."""
        raise AssertionError(f"parameter {param_name!r} is not of the space")
