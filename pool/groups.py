"""Groups of partitions: weights over groups (macro) and over units (micro), and the way between them.

In Na et al. 2024 (arXiv 2410.15661) base units are near-equal pieces of fields. A group's merge is the mean of its
units': w_unit = w_group / units of the group. So a mixture over groups is one over units, and the reverse is a sum.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence

from pool.errors import CorpusError
from pool.mixture import Mixture

Groups = Mapping[str, tuple[str, ...]]
"""Group -> its units, in order; every unit is in one group."""


def to_units(mixture: Mixture, groups: Groups) -> Mixture:
    """Turn a mixture over groups into one over units: each unit gets an equal part of its group's weight."""
    weights = mixture.over(tuple(groups)).as_dict()
    return Mixture.of({unit: weights[group] / len(units) for group, units in groups.items() for unit in units})


def to_groups(mixture: Mixture, groups: Groups) -> Mixture:
    """Turn a mixture over units into one over groups: the weights of a group's units add up."""
    weights = mixture.over([unit for units in groups.values() for unit in units]).as_dict()
    return Mixture.of({group: math.fsum(weights[unit] for unit in units) for group, units in groups.items()})


def even_within_groups(mixture: Mixture, groups: Groups) -> bool:
    """Tell whether the units of every group weigh alike, so that nothing is lost on the way to groups."""
    return to_units(to_groups(mixture, groups), groups).digest == mixture.digest


def group_units(
    partitions: Sequence[str], units: Mapping[str, tuple[str, ...]], wanted: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Put the units of partitions into groups: those `wanted` (patterns of partitions), else each partition one.

    Raises `CorpusError` for a pattern that matches nothing, a partition in two groups, or a group named like a unit.
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
