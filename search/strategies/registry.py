"""The strategies by name, and a user's own by dotted name."""

import importlib
from collections.abc import Callable

from optuna.samplers import BaseSampler

from pool.errors import ConfigError
from search.space import CappedSimplex
from search.strategies.auto import AUTO
from search.strategies.baselines import EXHAUSTIVE, GREEDY, QMC, RANDOM
from search.strategies.gradient import GRADIENT_DESCENT
from search.strategies.libraries import CMAES, GP, NSGA2, NSGA3, TPE
from search.strategies.strategy import Strategy
from search.strategies.surrogate import SURROGATE

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (AUTO, GRADIENT_DESCENT, SURROGATE, TPE, GP, CMAES, NSGA2, NSGA3, QMC, GREEDY, EXHAUSTIVE, RANDOM)
}


def find_strategy(name: str) -> Strategy:
    """Return a strategy by its name, or the user's own by `package.module:make`.

    make(space, seed) returns an Optuna sampler, which sees evaluated trials only. The proposal after a pruned one is
    random: a sampler repeating itself would never end. Raises `ValueError`.
    """
    if ":" in name:
        return Strategy(name, _checked(name, _imported(name)), pruned_trials="elsewhere", several=True)
    if name not in STRATEGIES:
        raise ValueError(f"unknown strategy {name!r}; use {', '.join(STRATEGIES)}, or your own as package.module:make")
    return STRATEGIES[name]


def _imported(name: str) -> Callable[[CappedSimplex, int], object]:
    module_name, _, attribute = name.partition(":")
    try:
        found: object = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ValueError(
            f"strategy {name!r} cannot be imported: {error}; install its package, or put its folder on PYTHONPATH"
        ) from None
    except AttributeError:
        raise ValueError(f"strategy {name!r}: module {module_name!r} has no {attribute!r}") from None
    if not callable(found):
        raise ValueError(f"strategy {name!r} must be a function make(space, seed): got {type(found).__name__}")
    return found


def _checked(name: str, make: Callable[[CappedSimplex, int], object]) -> Callable[[CappedSimplex, int], BaseSampler]:
    def checked(space: CappedSimplex, seed: int) -> BaseSampler:
        sampler = make(space, seed)
        if not isinstance(sampler, BaseSampler):
            raise ConfigError(
                f"strategy {name!r} must return an optuna.samplers.BaseSampler: got {type(sampler).__name__}"
            )
        return sampler

    return checked
