"""Mixtures to begin with that are computed rather than named."""

from collections.abc import Mapping

from pool.mixture import Mixture


def unimax(tokens: Mapping[str, int], budget_tokens: float, max_epochs: float) -> Mixture:
    """Spread a budget as evenly as repetition allows (UniMax, Chung et al. 2023, arXiv 2304.09151, algorithm 1).

    Partitions in the order of their tokens, the smallest first, get an equal part of the budget that is left, or
    `max_epochs` times their tokens where that is less. Raises `ValueError` for a budget or epochs not above zero.
    """
    if not budget_tokens > 0 or not max_epochs > 0:
        raise ValueError(f"budget and epochs must be above 0: got {budget_tokens!r} and {max_epochs!r}")
    left = float(budget_tokens)
    shares: dict[str, float] = {}
    for done, name in enumerate(sorted(tokens, key=lambda name: tokens[name])):
        shares[name] = min(left / (len(tokens) - done), tokens[name] * max_epochs)
        left -= shares[name]
    return Mixture.proportional({name: shares[name] for name in tokens})
