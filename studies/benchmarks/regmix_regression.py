"""RegMix's own regression, the reference that surrogates are measured beside: LightGBM on raw weights.

The settings are those of `regression_fitting/regression.ipynb` in https://github.com/sail-sg/regmix (Liu et al. 2024,
arXiv 2407.01492), LightGBM's defaults where it says nothing (31 leaves of at least 20 runs, so 32 runs cannot be
split well). As there, boosting stops on the very runs that it is then scored on, which favours it.
"""

from importlib.util import find_spec

import numpy as np

from objectives.held_out import Floats

SETTINGS = {
    "boosting_type": "gbdt",
    "objective": "regression",
    "metric": ["l1", "l2"],
    "learning_rate": 1e-2,
    "seed": 42,
    "verbosity": -1,
    "num_threads": 1,  # not RegMix's: on tables this small threads only cost
}
TREES = 1000
STOPPING_ROUNDS = 3


def is_installed() -> bool:
    """Tell whether LightGBM is there."""
    return find_spec("lightgbm") is not None


def predict(weights: Floats, values: Floats, unseen: Floats, unseen_values: Floats) -> Floats:
    """Fit mixtures (N, K) and values (N,) and predict unseen mixtures (M, K), whose values (M,) end the boosting."""
    from lightgbm import Dataset, early_stopping, train

    evidence = Dataset(weights, values)
    test = Dataset(unseen, unseen_values, reference=evidence)
    stopping = early_stopping(stopping_rounds=STOPPING_ROUNDS, verbose=False)
    booster = train(SETTINGS, evidence, num_boost_round=TREES, valid_sets=[test], callbacks=[stopping])
    return np.asarray(booster.predict(unseen), dtype=np.float64)
