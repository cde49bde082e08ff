"""The worst mixture, a control beside the best: what a poor choice of the same partitions costs."""

import numpy as np
import optuna

from pool.mixture import Mixture
from search.strategies.gradient import FIRST_MOVE
from search.trials import STOPPED_EARLY, completed_trials, value_of
from studies.assessment.ablation.evidence import DomainEvidence
from studies.opened.on_pool import Workbench

STEPS = 4
"""Steps of ascent from the worst mixture known."""


def worst_mixture(bench: Workbench, study: optuna.Study, evidence: DomainEvidence) -> Mixture:
    """Take the worst of the space's corners and of the study's trials, and climb from it while the loss rises.

    The loss of merges is nearly convex in the weights, and a convex function is highest at a corner: the climb is there
    for where it is not. Without gradients there is no climb.
    """
    names = bench.space.names
    candidates = [bench.space.project(Mixture.vertex(names, name).array) for name in names]
    full = [trial for trial in completed_trials(study) if not trial.user_attrs.get(STOPPED_EARLY)]
    if full:
        candidates.append(bench.space.mixture_of(max(full, key=value_of)))
    worst = max(candidates, key=lambda mixture: float(evidence.values(mixture)[0]))
    for _ in range(STEPS):
        higher = _step(bench, evidence, worst)
        if higher.digest == worst.digest or evidence.values(higher)[0] <= evidence.values(worst)[0]:
            break
        worst = higher
    return worst


def _step(bench: Workbench, evidence: DomainEvidence, mixture: Mixture) -> Mixture:
    slopes = evidence.goal_slopes(mixture)
    if slopes is None or np.ptp(slopes) == 0:
        return mixture
    return bench.space.project(mixture.array + 2 * FIRST_MOVE / np.ptp(slopes) * slopes)
