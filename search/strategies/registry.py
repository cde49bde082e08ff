"""The strategies by name."""

from search.strategies.gp import GP
from search.strategies.gradient import GRADIENT_DESCENT
from search.strategies.random import RANDOM
from search.strategies.strategy import Strategy
from search.strategies.tpe import TPE

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (GRADIENT_DESCENT, TPE, GP, RANDOM)}
