"""What a strategy is: a named way to make an Optuna sampler for one trial."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from search.space import CappedSimplex, Weights
from search.trials import started_trials

INFORMED_PATIENCE = 3
"""For strategies with a model of their own: the model has weighed a proposal before the gate (docs/decisions/0012)."""


@dataclass(frozen=True)
class Strategy:
    """A strategy and its part in the search.

    name: its name in the study file.
    make: (space, seed) -> a sampler for one trial, proposing from the study's history alone.
    pruned_trials: `hidden`: never seen. `elsewhere`: likewise, and the proposal after one is random, because the
        sampler would repeat itself. `own`: the sampler reads them.
    uses_gradient: mixtures are evaluated with gradients, and the objective must have them.
    gradient_optional: an objective without gradients will do, too.
    several: it can search for the front of several objectives.
    one_seed: all trials share a seed, for a sequence running through them.
    running_trials: whether the sampler sees the proposals of other workers in hand.
    most_shown: the sampler sees so many completed trials at most, the lowest.
    patience: pruned proposals in a row before the next is evaluated, if sooner than by the gate's rule; 0: never prune.
    settings: for the study's record.
    """

    name: str
    make: Callable[[CappedSimplex, int], BaseSampler]
    pruned_trials: Literal["hidden", "elsewhere", "own"]
    uses_gradient: bool = False
    gradient_optional: bool = False
    several: bool = False
    one_seed: bool = False
    running_trials: Literal["hidden", "shown"] = "hidden"
    most_shown: int | None = None
    patience: int | None = None
    settings: dict[str, object] = field(default_factory=dict)


Propose = Callable[[Sequence[FrozenTrial], CappedSimplex, int], Weights | None]
"""(started trials by number, space, seed) -> a point (K,) of the cube; None asks for a random point."""


class ReplayingSampler(BaseSampler):
    """The sampler of our own strategies: stateless, so a killed search repeats its proposals."""

    def __init__(self, space: CappedSimplex, seed: int, propose: Propose) -> None:
        self._space = space
        self._seed = seed
        self._propose = propose

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._space.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, float]:
        if not search_space:
            return {}
        point = self._propose(started_trials(study), self._space, self._seed)
        if point is None:
            point = np.random.default_rng([self._seed, trial.number]).random(len(self._space.names))
        return self._space.parameters_of(point)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        raise AssertionError(f"parameter {param_name!r} is not of the space")
