"""A mixture as it is typed on the command line: NAME=WEIGHT,NAME=WEIGHT."""

from collections.abc import Sequence

from pool.errors import ConfigError
from pool.mixture import Mixture


def named_weights(text: str, names: Sequence[str], *, option: str) -> Mixture:
    """Read `a=0.5,b=0.5` as a mixture over `names`. Raises `ConfigError` that names the part that does not fit."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            weight = float(number)
        except ValueError:
            equals = ""
        if not equals or name in weights:
            raise ConfigError(f"{option}: expected PARTITION=WEIGHT once for each, got {part!r}")
        if name not in names:
            raise ConfigError(f"{option}: {name!r} is no partition of the pool; it has {', '.join(names)}")
        weights[name] = weight
    try:
        return Mixture.of(weights).over(names)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
