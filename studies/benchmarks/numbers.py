"""Numbers on the command line, separated by commas."""

from pool.errors import ConfigError


def parse_partitions(text: str) -> list[int]:
    """Read `8,32,128`. Raises `ConfigError` that names the part that does not fit."""
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < 3:
            raise ConfigError(f"--partitions: {part!r} is no number of partitions, which is 3 or more")
    return list(dict.fromkeys(map(int, text.split(","))))
