"""The public Python API: pools, studies, losses, the mixture space and the samplers, in a notebook or a script.

    import mixscout

    mixscout.build_pool("pool.toml")
    with mixscout.open_study("study.toml") as study:
        study.search(60)
        print(study.best)
        study.plot_best()

Importing loads neither torch nor transformers; the first name that needs them does.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, filterwarnings

if TYPE_CHECKING:
    from mixscout.pools import build_pool, open_pool, pool_costs
    from mixscout.samplers import MixtureSampler, record
    from mixscout.study import Study, open_study
    from objectives.evaluation import Evaluation, Objective
    from objectives.losses.merged_loss import MergedLoss, ProxySettings
    from objectives.losses.trained_loss import TrainedLoss
    from objectives.merging.merge import StackedPool
    from objectives.merging.rules import make_rule
    from objectives.target import Goal
    from pool.building.training.costs import Costs
    from pool.errors import MixscoutError
    from pool.mixture import Mixture
    from pool.parts.store import Pool
    from search.space import CappedSimplex as MixtureSpace
    from studies.answers.best import Best
    from studies.answers.swarm_best import SwarmBest
    from studies.assessment.fidelity.priors import Priors
    from studies.outcome.cost.bill import Bill

__all__ = [
    "Best",
    "Bill",
    "Costs",
    "Evaluation",
    "Goal",
    "MergedLoss",
    "MixscoutError",
    "Mixture",
    "MixtureSampler",
    "MixtureSpace",
    "Objective",
    "Pool",
    "Priors",
    "ProxySettings",
    "StackedPool",
    "Study",
    "SwarmBest",
    "TrainedLoss",
    "build_pool",
    "make_rule",
    "open_pool",
    "open_study",
    "pool_costs",
    "record",
]

_HOMES = {
    "Best": "studies.answers.best",
    "Bill": "studies.outcome.cost.bill",
    "Costs": "pool.building.training.costs",
    "Evaluation": "objectives.evaluation",
    "Goal": "objectives.target",
    "MergedLoss": "objectives.losses.merged_loss",
    "Mixture": "pool.mixture",
    "MixtureSampler": "mixscout.samplers",
    "MixtureSpace": "search.space:CappedSimplex",
    "MixscoutError": "pool.errors",
    "Objective": "objectives.evaluation",
    "Pool": "pool.parts.store",
    "Priors": "studies.assessment.fidelity.priors",
    "ProxySettings": "objectives.losses.merged_loss",
    "StackedPool": "objectives.merging.merge",
    "Study": "mixscout.study",
    "SwarmBest": "studies.answers.swarm_best",
    "TrainedLoss": "objectives.losses.trained_loss",
    "build_pool": "mixscout.pools",
    "make_rule": "objectives.merging.rules",
    "open_pool": "mixscout.pools",
    "open_study": "mixscout.study",
    "pool_costs": "mixscout.pools",
    "record": "mixscout.samplers",
}
"""Module of every public name; another name there stands behind a colon."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("mixscout")
    if name not in _HOMES:
        raise AttributeError(f"module 'mixscout' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, other = _HOMES[name].partition(":")
    with catch_warnings():
        filterwarnings("ignore", "IProgress not found")  # tqdm in a notebook without ipywidgets
        import_module("tqdm.auto")  # warns when it is first imported, here or by a library later
        found: object = getattr(import_module(module), other or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _refuse_hidden_packages() -> None:
    """Raise `ImportError` where a file of the user, such as search.py, hides one of our packages."""
    home = Path(__file__).resolve().parent.parent
    for name in ("pool", "objectives", "search", "studies"):
        spec = find_spec(name)
        places = [*([spec.origin] if spec and spec.origin else []), *((spec and spec.submodule_search_locations) or [])]
        if not any(Path(place).resolve().is_relative_to(home / name) for place in places):
            found = places[0] if places else "nothing"
            raise ImportError(
                f"`import {name}` finds {found}, and Mixscout needs its own package {name!r} in {home}; rename that "
                "file or folder, or start Python elsewhere"
            )


_refuse_hidden_packages()
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: threads that spin starve other work
