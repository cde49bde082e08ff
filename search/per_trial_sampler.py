"""One sampler per trial, seeded by (study seed, trial number): the reason resuming is exact.

A sampler as long-lived as its process loses its random state with the process.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from search.optuna_private import FilteredStudy, annotate
from search.space import CappedSimplex
from search.strategies.baselines import RANDOM
from search.strategies.strategy import Strategy
from search.trials import ELSEWHERE, as_minimised, pruned_just_before, signs_of, value_of


def derive_seed(study_seed: int, trial_number: int, purpose: str) -> int:
    """Derive a 32-bit seed from the study's seed, a trial's number and a purpose."""
    text = f"{study_seed}:{trial_number}:{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class PerTrialSampler(BaseSampler):
    """Delegates each trial to a fresh sampler of the strategy, shown the trials it may learn from.

    After `patience` pruned proposals in a row the gate lets one through: always the strategy's own, never a random one.
    """

    def __init__(self, strategy: Strategy, space: CappedSimplex, *, seed: int, patience: int) -> None:
        self._strategy = strategy
        self._space = space
        self._seed = seed
        self._patience = patience
        self._made: tuple[int, BaseSampler] | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._for(study, trial).infer_relative_search_space(self._visible(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, object]:
        """Ask the trial's sampler; draw at random when another worker is busy with its answer."""
        visible = self._visible(study, trial)
        parameters = self._for(study, trial).sample_relative(visible, trial, search_space)
        if set(parameters) != set(self._space.free) or not self._is_taken(study, trial, parameters):
            return parameters
        annotate(study, trial, ELSEWHERE, True)
        elsewhere = RANDOM.make(self._space, derive_seed(self._seed, trial.number, "elsewhere"))
        return elsewhere.sample_relative(visible, trial, dict(self._space.distributions))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> object:
        """Ask a sampler of the parameter's own, so that a trial interrupted between two parameters goes on alike."""
        sampler = self._make(study, trial.number, f"propose:{param_name}")
        return sampler.sample_independent(self._visible(study, trial), trial, param_name, param_distribution)

    def _for(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        if self._made is None or self._made[0] != trial.number:
            self._made = (trial.number, self._make(study, trial.number, "propose"))
        return self._made[1]

    def _make(self, study: optuna.Study, number: int, purpose: str) -> BaseSampler:
        seed = derive_seed(self._seed, 0 if self._strategy.one_seed else number, purpose)
        starved = self._strategy.pruned_trials == "elsewhere" and 0 < pruned_just_before(study, number) < self._patience
        if starved:
            return RANDOM.make(self._space, seed)
        return self._strategy.make(self._space, seed)

    def _is_taken(self, study: optuna.Study, trial: FrozenTrial, parameters: dict[str, Any]) -> bool:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        others = [one for one in running if one.number != trial.number and self._space.stands_for_mixture(one)]
        taken = {self._space.mixture_of(one).digest for one in others}
        return bool(taken) and self._space.project(self._space.point_of(parameters)).digest in taken

    def _visible(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        """Hide the trial in hand, and pruned, running or poor trials as the strategy says.

        A trial taken up again may have parameters already; samplers would take them for another trial's.
        """

        signs = signs_of(study)

        def shown(trials: list[FrozenTrial]) -> list[FrozenTrial]:
            return self._best([one for one in trials if one.number != trial.number and self._shows(one)], signs)

        return FilteredStudy(study, shown)

    def _best(self, trials: list[FrozenTrial], signs: Sequence[float]) -> list[FrozenTrial]:
        most = self._strategy.most_shown
        done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        if most is None or len(done) <= most:
            return trials
        hidden = {trial.number for trial in sorted(as_minimised(done, signs), key=value_of)[most:]}
        return [trial for trial in trials if trial.number not in hidden]

    def _shows(self, trial: FrozenTrial) -> bool:
        own = self._strategy.pruned_trials == "own"
        if trial.state is TrialState.RUNNING:
            return self._strategy.running_trials == "shown" and self._space.stands_for_mixture(trial)
        if own and ELSEWHERE in trial.user_attrs:
            return False  # a strategy that follows its own steps would take the draw for one of them
        return own or trial.state is not TrialState.PRUNED
