"""What our own samplers share: each is a function from the study's finished trials to the next point.

What a strategy is: a named way to make an Optuna sampler for one trial.
"""

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


INFORMED_PATIENCE = 3
"""For strategies whose own model has weighed a proposal before the gate does (docs/decisions/0012)."""


@dataclass(frozen=True)
class Strategy:
    """A strategy.

    `make(space, seed)` gives a sampler that proposes one trial from the study's history alone; it is made anew
    for every trial, so a resumed study proposes what an undisturbed one would have. `settings` is what the
    sampler was made with, for the study's record. `pruned_trials` states what it learns from pruned trials:
    `hidden` (it never sees them), `elsewhere` (likewise, and the next proposal is drawn at random, because it
    would make the same one again), or `own` (it reads them itself). One that `uses_gradient` needs an objective with
    gradients, unless `gradient_optional`. `several` says that it can search for the front of several objectives. With
    `one_seed` every trial's sampler gets the same seed, for a sequence that goes on from trial to trial.
    `running_trials` states whether it is shown the proposals that other workers are busy with: it is where it can make
    something of them. With `most_shown` it sees no more completed trials than that, the ones with the lowest values:
    where the next one will be, too. `patience`: after so many pruned proposals in a row its next one is evaluated,
    where the gate's rule does not say so sooner; 0: the gate never prunes.
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
