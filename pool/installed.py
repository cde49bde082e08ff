"""What Mixscout's own requirements have installed, and nothing else that happens to lie beside them.

The demo corpus reads package descriptions and licences: a package that a user adds later must not change it.
"""

import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError

from packaging.requirements import Requirement

DISTRIBUTION = "mixscout"


def required_distributions() -> list[Distribution]:
    """List the installed distributions that Mixscout requires, directly or not, by name; itself is left out.

    Extras are left out too: what is needed to develop it, or for an optional verb, changes no demo.
    """
    found: dict[str, Distribution] = {}
    waiting = [Requirement(DISTRIBUTION)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower().replace("_", "-"), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            distribution = importlib.metadata.distribution(requirement.name)
        except PackageNotFoundError:
            continue  # an optional requirement that was not installed
        found[key[0]] = distribution
        waiting.extend(_requirements(distribution, requirement.extras))
    found.pop(DISTRIBUTION, None)
    return [found[name] for name in sorted(found)]


def _requirements(distribution: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (*sorted(extras), "")
        ):
            yield requirement
