"""The merge of the best mixture as mergekit configurations: its own, and the same weights under other merge methods."""

import yaml

from pool.mixture import Mixture
from pool.parts.store import Pool

METHODS: dict[str, dict[str, object]] = {
    "linear": {},
    "task_arithmetic": {},
    "ties": {"density": 0.5},
    "dare_ties": {"density": 0.5},
}
"""mergekit's method -> parameters of each model beside its weight. `linear` is what Mixscout scored."""

_ON_TASK_VECTORS = frozenset(METHODS) - {"linear"}


def mergekit_yaml(pool: Pool, mixture: Mixture, weights: dict[str, float], method: str) -> str:
    """Return the configuration of one method; `weights` are merge weights, after the study's rule.

    Methods on task vectors have the seed as their base. Weights are taken as they are: mergekit would divide them by
    their sum, which is one up to rounding.
    """
    assert set(weights) == set(mixture.names), "one merge weight a partition"
    models = [
        {"model": str(folder), "parameters": {"weight": weights[name], **METHODS[method]}}
        for name, folder in pool.member_folders.items()
        if weights[name] != 0
    ]
    base = {"base_model": str(pool.folder / "seed")} if method in _ON_TASK_VECTORS else {}
    settings = {"models": models, "parameters": {"normalize": False}, "dtype": "float32"}
    text: str = yaml.safe_dump({"merge_method": method, **base, **settings}, sort_keys=False)
    return text
