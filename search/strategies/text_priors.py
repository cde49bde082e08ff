"""Mixtures from text alone: how much of each partition the target's text looks like, before anything is trained.

Text is counted as n-grams. `likeliest_shares` explains the target's n-grams by the partitions' own; `importance_shares`
selects text as DSIR does (Xie et al. 2023, arXiv 2302.03169). Text is read by a model, too: `similar_shares` compares
vectors, and `selected_shares` takes the windows that the target's text makes likelier (Moore and Lewis 2010).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search.space import Weights

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

SMOOTHING = 0.02
"""The share of every distribution that is spread over all n-grams: half as the text of all partitions, half evenly."""
SELECTED = 0.1
"""The share of the text that is selected, by n-grams or by a model."""
_TEMPERATURES = np.geomspace(1e-3, 10.0, 80)
_STEPS = 300
_UNSEEN = 1e-2
"""Added to the counts of every n-gram."""


def smoothed(counts: Floats) -> Floats:
    """Turn counts (K, B) into distributions (K, B) without zeros."""
    every = counts.sum(axis=0)
    usual = 0.5 * every / every.sum() + 0.5 / counts.shape[1]
    return np.asarray((1 - SMOOTHING) * counts / counts.sum(axis=1, keepdims=True) + SMOOTHING * usual)


def likeliest_shares(partitions: Floats, target: Floats) -> Weights:
    """Return the weights (K,) under which a mixture of distributions (K, B) makes the target (B,) most likely.

    Expectation maximisation from equal weights; the likelihood is concave in them.
    """
    weights = np.full(len(partitions), 1 / len(partitions))
    for _ in range(_STEPS):
        weights = weights * (partitions * (target / (weights @ partitions))).sum(axis=1)
        weights /= weights.sum()
    return np.asarray(weights)


def text_losses(weights: Weights, partitions: Floats, target: Floats) -> Floats:
    """Return the cross-entropy (N,) of the target (B,) under mixtures (N, K), nats per n-gram."""
    return np.asarray(-(np.log(weights @ partitions) @ target))


def importance_shares(windows: Sequence[Places], target: Floats, *, seed: int) -> Weights:
    """Return the share of each partition (K,) in the text that DSIR selects.

    windows: the places (N_k, G) of the n-grams of each partition's windows, in 0 to B - 1. target: counts (B,), of any
    sum. A window's weight is the likelihood of its n-grams under the target over that under all text. Windows are drawn
    by their weights without replacement, by the largest sums of logarithm and Gumbel noise.
    """
    every = np.bincount(np.concatenate([one.ravel() for one in windows]), minlength=len(target)) + _UNSEEN
    wanted = target / target.sum() + _UNSEEN / every.sum()
    ratios = np.log(wanted / wanted.sum()) - np.log(every / every.sum())
    likely = np.concatenate([ratios[one].sum(axis=1) for one in windows])
    keys = likely + np.random.default_rng(seed).gumbel(size=len(likely))
    owners = np.repeat(np.arange(len(windows)), [len(one) for one in windows])
    chosen = owners[np.argsort(-keys, kind="stable")[: max(1, round(SELECTED * len(keys)))]]
    return np.asarray(np.bincount(chosen, minlength=len(windows)) / len(chosen))


def similar_shares(windows: Sequence[Floats], target: Floats) -> Weights:
    """Return shares (K,) by the likeness of each partition to the target: softmax(cosine / temperature).

    windows: vectors (N_k, D) of each partition's windows. target: vector (D,) of the target. Cosines are taken from the
    mean of all partitions, as vectors of one model have much in common. The temperature makes held-out windows, the
    second of every two, likeliest to be of their own partition as the other windows tell.
    """
    from scipy.special import log_softmax  # loads slowly

    middle = np.mean([one.mean(axis=0) for one in windows], axis=0)
    halves = [(one[::2], one[1::2]) if len(one) > 1 else (one, one) for one in windows]
    centres = _unit(np.stack([fitted.mean(axis=0) for fitted, _ in halves]) - middle)
    cosines = [_unit(held_out - middle) @ centres.T for _, held_out in halves]
    temperature = max(_TEMPERATURES, key=lambda one: _log_likelihood(cosines, float(one)))
    whole = _unit(np.stack([one.mean(axis=0) for one in windows]) - middle)
    return np.asarray(np.exp(log_softmax(whole @ _unit(target - middle) / temperature)))


def selected_shares(differences: Sequence[Floats]) -> Weights:
    """Return the share of each partition (K,) in the windows with the lowest differences (N_k,), each partition alike.

    A difference is the cross-entropy of a window under a model of the target less that under a model of all text
    (Moore and Lewis 2010, ACL short papers, P10-2041).
    """
    limit = np.quantile(np.concatenate(differences), SELECTED)
    shares = np.array([np.mean(one <= limit) for one in differences])
    return np.asarray(shares / shares.sum())


def _unit(vectors: Floats) -> Floats:
    """Scale vectors (..., D) to length one; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _log_likelihood(cosines: Sequence[Floats], temperature: float) -> float:
    """Return the mean log probability of each partition's windows (N_k, K) to be of it."""
    from scipy.special import log_softmax  # loads slowly

    return float(np.mean([log_softmax(one / temperature, axis=1)[:, k].mean() for k, one in enumerate(cosines)]))
