"""Who runs in a benchmark of strategies, with what budget."""

from dataclasses import dataclass

from pool.errors import ConfigError
from search.strategies.registry import STRATEGIES


@dataclass(frozen=True)
class Entry:
    """A strategy and the merges it is given."""

    strategy: str
    merges: int


def parse_entries(text: str) -> list[Entry]:
    """Read `gradient:10,tpe:100`. Raises `ConfigError` that names the part that does not fit."""
    entries = []
    for part in text.split(","):
        name, _, merges = part.partition(":")
        if name not in STRATEGIES or not merges.isdecimal() or int(merges) < 1:
            raise ConfigError(f"{part!r} is not STRATEGY:MERGES with a strategy of {', '.join(STRATEGIES)}")
        entries.append(Entry(name, int(merges)))
    return entries


def parse_strategies(text: str | None) -> list[str]:
    """Read `auto,tpe`; all strategies for None. Raises `ConfigError` that names what is none."""
    names = list(STRATEGIES) if text is None else text.split(",")
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise ConfigError(f"--strategies: {unknown[0]!r} is no strategy; there are {', '.join(STRATEGIES)}")
    return list(dict.fromkeys(names))
