"""Which mixtures are really trained to judge the proxy: the best one, the baselines, and a spread over the space."""

import numpy as np
import optuna

from pool.errors import ConfigError
from pool.mixture import Mixture
from search.designs import spread
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

_TRIES = 100
ANCHOR = "mixscout:fidelity_anchor"
"""On the study: the best mixture of the first design, so that a later one, of more mixtures, begins with the same."""


def design(bench: Workbench, study: optuna.Study, count: int) -> dict[str, Mixture]:
    """Name `count` different mixtures of two partitions or more; asking for more later keeps those that there are.

    Single partitions are left out: the model trained on one *is* the member, so proxy and truth agree by construction.
    Raises `ConfigError` when the space has nothing else, and `StudyError` before the first evaluation.
    """
    best = best_mixture(bench, study)
    named = {"best": best, "uniform": Mixture.uniform(bench.pool.names), "proportional": bench.pool.proportional()}
    anchor = _anchor(study, best).over(bench.pool.names)
    fixed = [named["uniform"], named["proportional"], anchor]
    try:
        others = spread(bench.space, count, seed=bench.config.search.seed, before=fixed, near=anchor)
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None
    named |= {f"spread-{number}": mixture for number, mixture in enumerate(others, start=1)}
    plan: dict[str, Mixture] = {}
    for name, mixture in named.items():
        known = {one.digest for one in plan.values()}
        if len(mixture.support) > 1 and mixture.digest not in known and len(plan) < count:
            plan[name] = mixture.over(bench.pool.names)
    return plan


def union_design(bench: Workbench, count: int) -> dict[str, Mixture]:
    """Name `count` different even mixtures of two partitions or more, of random sizes; more keep those there are.

    Raises `ConfigError` when the space has fewer.
    """
    names, space = bench.space.allowed, bench.space
    most = min(len(names), space.max_members)
    plan: dict[str, Mixture] = {}
    for number in range(_TRIES * count):
        rng = np.random.default_rng([bench.config.search.seed, number])
        size = int(rng.integers(2, most + 1)) if most > 1 else 1
        mixture = Mixture.uniform([names[at] for at in sorted(rng.permutation(len(names))[:size])]).over(space.names)
        known = {one.digest for one in plan.values()}
        if size > 1 and space.contains(mixture) and mixture.digest not in known:
            plan[f"union-{len(plan) + 1}"] = mixture
        if len(plan) == count:
            return plan
    raise ConfigError(
        f"[space] has {len(plan)} even mixtures of two partitions or more, fewer than {count}; ask for less"
    )


def _anchor(study: optuna.Study, best: Mixture) -> Mixture:
    recorded = study.user_attrs.get(ANCHOR)
    if recorded is None:
        study.set_user_attr(ANCHOR, best.as_dict())
        return best
    return Mixture.of(recorded)
