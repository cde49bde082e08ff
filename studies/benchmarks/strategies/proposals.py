"""The verb `bench proposals`: the cost of a proposal in a study with many trials.

The study is in memory, with trials from a formula. Processor seconds of one thread hardly depend on other work of the
machine.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial
from threadpoolctl import threadpool_limits

from objectives.stand_ins.analytic import AnalyticLoss
from objectives.stand_ins.problems import problem
from pool.mixture import Mixture
from pool.progress import track
from search.per_trial_sampler import PerTrialSampler
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.strategies.strategy import Strategy
from search.trials import GRADIENT
from studies.benchmarks.ratio import Ratio
from studies.terminal import quiet_libraries

PATIENCE = 1
"""Without a gate, nothing is pruned."""


@dataclass(frozen=True)
class ProposalCost:
    """Processor seconds of a proposal.

    first_seconds: first proposal of a process, which also draws the candidates and chooses the prior.
    seconds: median, least and greatest of the later ones.
    """

    strategy: str
    trials: int
    partitions: int
    first_seconds: float
    seconds: Ratio


def run_proposals(strategies: Sequence[str], partitions: int, trials: int, repeats: int) -> list[ProposalCost]:
    """Measure every strategy on its own study of so many trials."""
    quiet_libraries()
    objective = problem("scheffe", "face", partitions, seed=0)
    costs = []
    with track("proposals", len(strategies)) as show, threadpool_limits(1):
        for name in strategies:
            costs.append(_cost(STRATEGIES[name], objective, trials, repeats))
            show(len(costs), f"{name}: {costs[-1].seconds.median:.3f} s")
    return costs


def _cost(strategy: Strategy, objective: AnalyticLoss, trials: int, repeats: int) -> ProposalCost:
    space = CappedSimplex.of(objective.partitions)
    study = optuna.create_study(sampler=PerTrialSampler(strategy, space, seed=0, patience=PATIENCE))
    for mixture in _approaching(objective, trials):
        _add(study, space, strategy, objective, mixture)
    spent = []
    for _ in range(repeats + 1):
        started = time.process_time()
        mixture = space.suggest(trial := study.ask())
        spent.append(time.process_time() - started)
        study.tell(trial, state=TrialState.FAIL)
        _add(study, space, strategy, objective, mixture)
    return ProposalCost(strategy.name, trials, len(space.names), spent[0], Ratio.of(spent[1:]))


def _approaching(objective: AnalyticLoss, count: int) -> list[Mixture]:
    rng = np.random.default_rng(1)
    drawn = rng.dirichlet(np.full(len(objective.partitions), 0.5), size=count)
    nearness = np.linspace(0, 0.95, count)[:, None]
    return [Mixture(objective.partitions, row) for row in nearness * objective.optimum.array + (1 - nearness) * drawn]


def _add(
    study: optuna.Study, space: CappedSimplex, strategy: Strategy, objective: AnalyticLoss, mixture: Mixture
) -> None:
    attributes: dict[str, object] = {}
    if strategy.uses_gradient and objective.gradient is not None:
        attributes[GRADIENT] = list(objective.gradient(mixture).gradient or ())
    trial = create_trial(
        value=objective(mixture).value,
        params=space.parameters(mixture),
        distributions=dict(space.distributions),
        user_attrs=attributes,
    )
    study.add_trial(trial)
