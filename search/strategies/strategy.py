"""What a strategy is: a named way to make an Optuna sampler for one trial."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from optuna.samplers import BaseSampler

from search.space import CappedSimplex

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
