"""NSGA-III (Deb and Jain 2014, IEEE Trans. Evol. Comput. 18), Optuna's, with simulated binary crossover.

It spreads its parents over reference directions instead of by crowding: for more than two or three objectives.
Generations, children and pruned trials are as in NSGA-II.
"""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler
from optuna.samplers.nsgaii import SBXCrossover

from search.space import CappedSimplex
from search.strategies.nsga2 import CROSSOVER, POPULATION
from search.strategies.strategy import Strategy


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's NSGA-III sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the sampler and the crossover
        return NSGAIIISampler(
            population_size=POPULATION,
            crossover=SBXCrossover(use_child_gene_prob=CROSSOVER["use_child_gene_prob"]),
            crossover_prob=CROSSOVER["crossover_prob"],
            seed=seed,
        )


NSGA3 = Strategy(
    "nsga3", make, pruned_trials="hidden", several=True, settings={"population_size": POPULATION, **CROSSOVER}
)
