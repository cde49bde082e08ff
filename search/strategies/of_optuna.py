"""Gaussian-process Bayesian optimisation, Optuna's, with the log expected improvement.

It explores by expected improvement under a model of its own, and the gate never holds it back: what was merged instead
was worth less to it (docs/decisions/0012). The gate predicts all the same, and counts what it would have pruned.

NSGA-II (Deb et al. 2002, IEEE Trans. Evol. Comput. 6), Optuna's, with simulated binary crossover.

Every child is crossed: a copy of a parent would cost a merge and teach nothing. Pruned trials are hidden, as a
generation is made of evaluated mixtures alone; the next child has another seed, so it is another one.

NSGA-III (Deb and Jain 2014, IEEE Trans. Evol. Comput. 18), Optuna's, with simulated binary crossover.

It spreads its parents over reference directions instead of by crowding: for more than two or three objectives.
Generations, children and pruned trials are as in NSGA-II.

Tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's, over all coordinates jointly.

Pruned trials are hidden from it: they would count into its quantile and turn every evaluated mixture into a
good one.
"""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import SBXCrossover

from search.space import CappedSimplex
from search.strategies.strategy import Strategy

STARTUP_TRIALS = 10
MOST_SHOWN = 150
"""Its cost grows with the cube of what it conditions on: 15 s a proposal for 1,000 trials of 128 partitions."""


def make_gp(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's GP sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the argument deterministic_objective
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=True)


GP = Strategy(
    "gp",
    make_gp,
    pruned_trials="elsewhere",
    several=True,
    running_trials="shown",
    most_shown=MOST_SHOWN,
    patience=0,
    settings={"n_startup_trials": STARTUP_TRIALS, "deterministic_objective": True, "most_shown": MOST_SHOWN},
)


POPULATION = 10
"""Mixtures in a generation: budgets are some tens of merges."""
CROSSOVER = {"crossover_prob": 1.0, "use_child_gene_prob": 1.0}


def make_nsga2(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's NSGA-II sampler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the crossover
        crossover = SBXCrossover(use_child_gene_prob=CROSSOVER["use_child_gene_prob"])
    return NSGAIISampler(
        population_size=POPULATION, crossover=crossover, crossover_prob=CROSSOVER["crossover_prob"], seed=seed
    )


NSGA2 = Strategy(
    "nsga2", make_nsga2, pruned_trials="hidden", several=True, settings={"population_size": POPULATION, **CROSSOVER}
)


def make_nsga3(space: CappedSimplex, seed: int) -> BaseSampler:
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
    "nsga3", make_nsga3, pruned_trials="hidden", several=True, settings={"population_size": POPULATION, **CROSSOVER}
)


def make_tpe(space: CappedSimplex, seed: int) -> BaseSampler:
    """Make Optuna's TPE sampler."""
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)


TPE = Strategy(
    "tpe",
    make_tpe,
    pruned_trials="hidden",
    several=True,
    running_trials="shown",
    settings={"n_startup_trials": STARTUP_TRIALS, "multivariate": True, "constant_liar": True},
)
