"""Mixtures: checked weights over partitions, or over groups of partitions.

Members are trained at vertices of the simplex, ground truths at interior points.
"""

from __future__ import annotations

import fnmatch
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pool.errors import CorpusError
from pool.files.digests import digest_json

SUM_TOLERANCE = 1e-9
SHARE_ROUNDING = 0.005
"""How far published weights may be from summing to 1, or to 100 as percent."""
DUST = 1e-9
"""How far below zero a solver's zero may be."""
_DIGEST_DECIMALS = 12


@dataclass(frozen=True)
class Mixture:
    """Weights (K,) over K named partitions: finite, not negative, of sum 1 within 1e-9.

    Raises `ValueError` for other weights, and for repeated or missing names.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.weights):
            raise ValueError(
                f"a mixture needs one weight per partition: got {len(self.weights)} weights "
                f"for {len(self.names)} partitions"
            )
        if len(set(self.names)) < len(self.names):
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"a mixture names each partition once: {repeated} come more than once")
        for name, weight in zip(self.names, self.weights, strict=True):
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"the weight of {name!r} must be finite and >= 0: got {weight!r}")
        total = math.fsum(self.weights)
        if abs(total - 1) > SUM_TOLERANCE:
            raise ValueError(
                f"the weights of a mixture must sum to 1: they sum to {total:.12g}; divide each by {total:.6g}"
            )

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> Mixture:
        return cls(tuple(weights), tuple(float(weight) for weight in weights.values()))

    @classmethod
    def from_array(cls, names: Sequence[str], weights: npt.ArrayLike) -> Mixture:
        """Build from an array (K,) in the order of `names`."""
        return cls(tuple(names), tuple(float(weight) for weight in np.asarray(weights, dtype=np.float64)))

    @classmethod
    def vertex(cls, names: Sequence[str], name: str) -> Mixture:
        """Put all weight on one partition. Raises `ValueError` for a name outside `names`."""
        if name not in names:
            raise ValueError(f"no partition {name!r}: there are {', '.join(names)}")
        return cls(tuple(names), tuple(float(other == name) for other in names))

    @classmethod
    def uniform(cls, names: Sequence[str]) -> Mixture:
        return cls.proportional(dict.fromkeys(names, 1.0))

    @classmethod
    def proportional(cls, amounts: Mapping[str, float]) -> Mixture:
        """Divide amounts, such as tokens, by their sum. Raises `ValueError` for a sum of zero."""
        total = math.fsum(amounts.values())
        if not math.isfinite(total) or total <= 0:
            raise ValueError(f"amounts must have a positive finite sum: it is {total!r}")
        return cls.of({name: amount / total for name, amount in amounts.items()})

    @property
    def array(self) -> npt.NDArray[np.float64]:
        return np.array(self.weights, dtype=np.float64)

    @property
    def support(self) -> tuple[str, ...]:
        return tuple(name for name, weight in self.as_dict().items() if weight > 0)

    @property
    def digest(self) -> str:
        """Digest without partition order, zero weights and differences under 1e-12."""
        rounded = {name: round(weight, _DIGEST_DECIMALS) for name, weight in self.as_dict().items()}
        return digest_json({name: weight for name, weight in rounded.items() if weight > 0})

    def _repr_html_(self) -> str:
        return html_table("weight", {name: f"{weight:.4f}" for name, weight in self.as_dict().items()})

    def as_dict(self) -> dict[str, float]:
        return dict(zip(self.names, self.weights, strict=True))

    def over(self, names: Sequence[str]) -> Mixture:
        """Re-order to `names`; new names get zero. Raises `ValueError` if `names` lacks a partition of the support."""
        missing = [name for name in self.support if name not in names]
        if missing:
            raise ValueError(f"the mixture uses partitions that are not there: {', '.join(missing)}")
        weights = self.as_dict()
        return Mixture(tuple(names), tuple(weights.get(name, 0.0) for name in names))

    def blended(self, other: Mixture, share: float) -> Mixture:
        """Return (1 - share) * self + share * other, over the partitions of both."""
        mine, others = self.as_dict(), other.as_dict()
        names = dict.fromkeys([*mine, *others])
        weights = {name: (1 - share) * mine.get(name, 0.0) + share * others.get(name, 0.0) for name in names}
        return Mixture.proportional(weights)


def html_table(heading: str, values: Mapping[str, str]) -> str:
    """Write a value for each partition as a table for a notebook."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in values.items()
    )
    return f"<table><tr><th>partition</th><th>{html.escape(heading)}</th></tr>{rows}</table>"


def published(weights: Mapping[str, float], *, normalise: bool = False) -> tuple[Mixture, str]:
    """Return weights as people publish them as a mixture, and a note on what was done to them, or "".

    Weights that sum to nearly 1 or 100, or to anything with `normalise`, are divided by their sum; zeros a little
    below zero are zeros. Weights that sum to 1 stay as they are. Raises `ValueError` for others.
    """
    cleaned = {name: 0.0 if -DUST <= weight < 0 else float(weight) for name, weight in weights.items()}
    below = [name for name, weight in cleaned.items() if not math.isfinite(weight) or weight < 0]
    total = math.fsum(cleaned.values()) if not below else math.nan
    rounded, percent = abs(total - 1) <= SHARE_ROUNDING, abs(total / 100 - 1) <= SHARE_ROUNDING
    if abs(total - 1) <= SUM_TOLERANCE or not (rounded or percent or (normalise and total > 0)):
        return Mixture.of(cleaned), ""
    what = f"weights sum to {total:.6g}"
    return Mixture.proportional(cleaned), f"{what}, as percent: divided by it" if percent else f"{what}: divided by it"


Groups = Mapping[str, tuple[str, ...]]
"""Units of each group, in order. Base units are near-equal pieces of partitions; every unit is in one group."""


def to_units(mixture: Mixture, groups: Groups) -> Mixture:
    """Split each group's weight: w_unit = w_group / (units of the group).

    A group's merge is the mean of its units (Na et al. 2024, arXiv 2410.15661).
    """
    weights = mixture.over(tuple(groups)).as_dict()
    return Mixture.of({unit: weights[group] / len(units) for group, units in groups.items() for unit in units})


def to_groups(mixture: Mixture, groups: Groups) -> Mixture:
    """Add up the weights of units: w_group = sum of w_unit."""
    weights = mixture.over([unit for units in groups.values() for unit in units]).as_dict()
    return Mixture.of({group: math.fsum(weights[unit] for unit in units) for group, units in groups.items()})


def even_within_groups(mixture: Mixture, groups: Groups) -> bool:
    """Tell whether the units of each group weigh alike: `to_groups` then loses nothing."""
    return to_units(to_groups(mixture, groups), groups).digest == mixture.digest


def group_units(
    partitions: Sequence[str], units: Mapping[str, tuple[str, ...]], wanted: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Put the `units` of each partition into the groups `wanted`, given as patterns of partition names.

    A partition outside them is a group by itself. Raises `CorpusError` for a pattern without a match, a partition in
    two groups, and a group with the name of a unit.
    """
    homes: dict[str, str] = {}
    for group, patterns in wanted.items():
        for pattern in patterns:
            found = fnmatch.filter(partitions, pattern)
            if not found:
                raise CorpusError(
                    f"group {group!r}: no partition matches {pattern!r}; there are {', '.join(partitions)}"
                )
            for name in found:
                if homes.setdefault(name, group) != group:
                    raise CorpusError(f"partition {name!r} is in the groups {homes[name]!r} and {group!r}; keep one")
    groups: dict[str, tuple[str, ...]] = {}
    for name in partitions:
        group = homes.get(name, name)
        groups[group] = (*groups.get(group, ()), *units[name])
    for group, members in groups.items():
        others = {unit for other, some in groups.items() if other != group for unit in some}
        if group in others or (group in members and len(members) > 1):
            raise CorpusError(f"group {group!r} has the name of one of several units; rename the group")
    return groups


def apportion(weights: npt.NDArray[np.float64], total: int) -> npt.NDArray[np.int64]:
    """Split `total` in proportion to `weights` (K,), by largest remainder (Hamilton); a weight of zero gets nothing."""
    exact = weights * total
    counts = np.floor(exact).astype(np.int64)
    short = total - int(counts.sum())
    largest = np.lexsort((counts - exact, weights <= 0))[:short]
    counts[largest] += 1
    return counts
