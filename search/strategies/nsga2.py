"""NSGA-II (Deb et al. 2002, IEEE Trans. Evol. Comput. 6), Optuna's, with simulated binary crossover.

Every child is crossed: a copy of a parent would cost a merge and teach nothing. Pruned trials are hidden, as a
generation is made of evaluated mixtures alone; the next child has another seed, so it is another one.
"""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.samplers.nsgaii import SBXCrossover

from search.space import CappedSimplex
from search.strategies.strategy import Strategy

POPULATION = 10
"""Mixtures in a generation: budgets are some tens of merges."""
CROSSOVER = {"crossover_prob": 1.0, "use_child_gene_prob": 1.0}


def make(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's NSGA-II sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the crossover
        crossover = SBXCrossover(use_child_gene_prob=CROSSOVER["use_child_gene_prob"])
    return NSGAIISampler(
        population_size=POPULATION, crossover=crossover, crossover_prob=CROSSOVER["crossover_prob"], seed=seed
    )


NSGA2 = Strategy(
    "nsga2", make, pruned_trials="hidden", several=True, settings={"population_size": POPULATION, **CROSSOVER}
)
