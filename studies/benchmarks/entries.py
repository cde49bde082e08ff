"""Who runs in a benchmark of strategies, with what budget."""

from dataclasses import dataclass

from objectives.evaluation import FORWARDS_PER_GRADIENT
from pool.errors import ConfigError
from search.strategies.registry import STRATEGIES


@dataclass(frozen=True)
class Entry:
    """A strategy and the merges it is given."""

    strategy: str
    merges: int

    @property
    def forwards(self) -> int:
        """Forward-equivalents, of an objective with gradients: a merge with its gradient counts three."""
        return self.merges * (FORWARDS_PER_GRADIENT if STRATEGIES[self.strategy].uses_gradient else 1)


def parse_entries(text: str) -> list[Entry]:
    """Read `gradient:10,tpe:100`. Raises `ConfigError` that names the part that does not fit."""
    entries = []
    for part in text.split(","):
        name, _, merges = part.partition(":")
        if name not in STRATEGIES or not merges.isdecimal() or int(merges) < 1:
            raise ConfigError(f"{part!r} is not STRATEGY:MERGES with a strategy of {', '.join(STRATEGIES)}")
        entries.append(Entry(name, int(merges)))
    return entries
