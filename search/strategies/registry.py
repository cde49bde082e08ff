"""A sampler of the user's own, by dotted name: `package.module:make`.

It is shown evaluated trials only, and the proposal after a pruned one is random: nothing is known of it, and one that
makes the same proposal again would never end.

The strategies by name.
"""

import importlib
from collections.abc import Callable

from optuna.samplers import BaseSampler

from pool.errors import ConfigError
from search.space import CappedSimplex
from search.strategies.auto import AUTO
from search.strategies.baselines import QMC, RANDOM
from search.strategies.cmaes import CMAES
from search.strategies.exhaustive import EXHAUSTIVE
from search.strategies.gradient import GRADIENT_DESCENT
from search.strategies.greedy import GREEDY
from search.strategies.of_optuna import GP, NSGA2, NSGA3, TPE
from search.strategies.strategy import Strategy
from search.strategies.surrogate import SURROGATE


def load_strategy(name: str) -> Strategy:
    """Import `package.module:make`, where make(space, seed) returns an Optuna sampler.

    Raises `ValueError` for what cannot be imported or called; the sampler is checked when it is made.
    """
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ValueError(
            f"strategy {name!r} cannot be imported: {error}; install its package, or put its folder on PYTHONPATH"
        ) from None
    except AttributeError:
        raise ValueError(f"strategy {name!r}: module {module_name!r} has no {attribute!r}") from None
    if not callable(found):
        raise ValueError(f"strategy {name!r} must be a function make(space, seed): got {type(found).__name__}")
    return Strategy(name, _checked(name, found), pruned_trials="elsewhere", several=True)


def _checked(name: str, make: Callable[[CappedSimplex, int], object]) -> Callable[[CappedSimplex, int], BaseSampler]:
    def checked(space: CappedSimplex, seed: int) -> BaseSampler:
        """Make the user's sampler. Raises `ConfigError` when it is none."""
        sampler = make(space, seed)
        if not isinstance(sampler, BaseSampler):
            raise ConfigError(
                f"strategy {name!r} must return an optuna.samplers.BaseSampler: got {type(sampler).__name__}"
            )
        return sampler

    return checked


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (AUTO, GRADIENT_DESCENT, SURROGATE, TPE, GP, CMAES, NSGA2, NSGA3, QMC, GREEDY, EXHAUSTIVE, RANDOM)
}


def find_strategy(name: str) -> Strategy:
    """Return a strategy by its name, or the user's own by a dotted one. Raises `ValueError`."""
    if ":" in name:
        return load_strategy(name)
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}; use {', '.join(STRATEGIES)}, or your own as package.module:make")
    return STRATEGIES[name]
