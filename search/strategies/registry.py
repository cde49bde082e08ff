"""The strategies by name."""

from search.strategies.auto import AUTO
from search.strategies.cmaes import CMAES
from search.strategies.exhaustive import EXHAUSTIVE
from search.strategies.gp import GP
from search.strategies.gradient import GRADIENT_DESCENT
from search.strategies.greedy import GREEDY
from search.strategies.nsga2 import NSGA2
from search.strategies.nsga3 import NSGA3
from search.strategies.own import load_strategy
from search.strategies.qmc import QMC
from search.strategies.random import RANDOM
from search.strategies.strategy import Strategy
from search.strategies.surrogate import SURROGATE
from search.strategies.tpe import TPE

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
