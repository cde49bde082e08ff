"""Choose mixtures to train for judging the proxy: the best, the baselines, and a spread."""

from collections.abc import Iterable

import numpy as np
import optuna

from pool.errors import ConfigError
from pool.mixture import Mixture
from search.designs import spread
from search.space import CappedSimplex
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

_TRIES = 100
ANCHOR = "mixscout:fidelity_anchor"
"""On the study: the best mixture of the first design, so that a later, larger design begins with the same mixtures."""


def design(bench: Workbench, study: optuna.Study, count: int) -> dict[str, Mixture]:
    """Name `count` different mixtures of two partitions or more; a larger design keeps the smaller one.

    A model trained on a single partition is the member, so single partitions are left out. Raises `ConfigError` for a
    space without others, and `StudyError` before the first evaluation.
    """
    names, best = bench.proxy.pool.names, best_mixture(bench, study)
    named = {"best": best, "uniform": Mixture.uniform(names), "proportional": bench.proxy.pool.proportional()}
    anchor = _anchor(study, best).over(names)
    fixed = [named["uniform"], named["proportional"], anchor]
    try:
        others = spread(bench.space, count, seed=bench.config.search.seed, before=fixed, near=anchor)
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None
    named |= {f"spread-{number}": mixture for number, mixture in enumerate(others, start=1)}
    plan: dict[str, Mixture] = {}
    for name, mixture in named.items():
        if len(mixture.support) > 1 and len(plan) < count and not _contains(plan.values(), mixture):
            plan[name] = mixture.over(names)
    return plan


def union_design(space: CappedSimplex, count: int, *, seed: int) -> dict[str, Mixture]:
    """Name `count` even mixtures of random sizes from two on; a larger design keeps the smaller one.

    Raises `ConfigError` when the space has fewer.
    """
    names = space.allowed
    most = min(len(names), space.max_members)
    plan: dict[str, Mixture] = {}
    for number in range(_TRIES * count):
        rng = np.random.default_rng([seed, number])
        size = int(rng.integers(2, most + 1)) if most > 1 else 1
        mixture = Mixture.uniform([names[at] for at in sorted(rng.permutation(len(names))[:size])]).over(space.names)
        if size > 1 and space.contains(mixture) and not _contains(plan.values(), mixture):
            plan[f"union-{len(plan) + 1}"] = mixture
        if len(plan) == count:
            return plan
    raise ConfigError(
        f"[space] has {len(plan)} even mixtures of two partitions or more, fewer than {count}; ask for less"
    )


def _contains(mixtures: Iterable[Mixture], mixture: Mixture) -> bool:
    return any(one.digest == mixture.digest for one in mixtures)


def _anchor(study: optuna.Study, best: Mixture) -> Mixture:
    recorded = study.user_attrs.get(ANCHOR)
    if recorded is None:
        study.set_user_attr(ANCHOR, best.as_dict())
        return best
    return Mixture.of(recorded)
