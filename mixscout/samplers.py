"""Our strategies as Optuna samplers, for a study of your own.

space = mixscout.MixtureSpace.of(["news", "code", "wiki"])
study = optuna.create_study(sampler=mixscout.MixtureSampler("auto", space, seed=0))
study.optimize(lambda trial: mixscout.record(trial, loss.gradient(space.suggest(trial))), n_trials=40)
"""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from objectives.evaluation import Evaluation
from search.per_trial_sampler import PerTrialSampler
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES, find_strategy
from search.trials import GRADIENT, STANDARD_ERROR, completed_trials


class MixtureSampler(PerTrialSampler):
    """A strategy by its name in the study file, as a sampler of a minimising study.

    The objective suggests its mixture by `space.suggest(trial)`. A strategy with gradients reads them from trials
    whose objective returns `record(trial, evaluation)`.

    Raises `ValueError` for an unknown strategy, for a study with another direction, and when a strategy needs
    gradients and no completed trial has one.
    """

    def __init__(self, strategy: str, space: CappedSimplex, *, seed: int = 0) -> None:
        found = find_strategy(strategy)
        super().__init__(found, space, seed=seed, patience=1)
        self._found = found

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Check the study, then ask the strategy."""
        self._check(study)
        return super().infer_relative_search_space(study, trial)

    def __repr__(self) -> str:
        return f"MixtureSampler({self._found.name!r})"

    def _check(self, study: optuna.Study) -> None:
        name = self._found.name
        if any(direction is not StudyDirection.MINIMIZE for direction in study.directions):
            raise ValueError(f"strategy {name!r} minimises: return losses, or negated scores, from a minimising study")
        if len(study.directions) > 1 and not self._found.several:
            able = ", ".join(one.name for one in STRATEGIES.values() if one.several)
            raise ValueError(
                f"strategy {name!r} follows one objective: the study has {len(study.directions)}; use one of {able}"
            )
        if not self._found.uses_gradient or self._found.gradient_optional:
            return
        done = completed_trials(study)
        if done and not any(GRADIENT in trial.user_attrs for trial in done):
            raise ValueError(
                f"strategy {name!r} needs gradients, and no completed trial has one: return "
                "mixscout.record(trial, loss.gradient(mixture)) from the objective, or use a strategy without gradients"
            )


def record(trial: optuna.Trial, evaluation: Evaluation) -> Any:
    """Note an evaluation's gradient and standard error on a trial, and return its value or values."""
    if evaluation.gradient is not None:
        trial.set_user_attr(GRADIENT, list(evaluation.gradient))
    trial.set_user_attr(STANDARD_ERROR, evaluation.standard_error)
    return evaluation.value if len(evaluation.values) < 2 else list(evaluation.values)
