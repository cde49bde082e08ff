"""A sampler of the user's own, by dotted name: `package.module:make`.

It is shown evaluated trials only, and the proposal after a pruned one is random: nothing is known of it, and one that
makes the same proposal again would never end.
"""

import importlib
from collections.abc import Callable

from optuna.samplers import BaseSampler

from pool.errors import ConfigError
from search.space import CappedSimplex
from search.strategies.strategy import Strategy


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
