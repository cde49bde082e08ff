"""Numbers on the command line, separated by commas."""

from pool.errors import ConfigError


def parse_numbers(option: str, text: str, what: str, *, least: int) -> list[int]:
    """Read `8,32,128`, given for an option, without repetitions. Raises `ConfigError` that names the part at fault."""
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < least:
            raise ConfigError(f"{option}: {part!r} is no number of {what}, which is {least} or more")
    return list(dict.fromkeys(map(int, text.split(","))))


def parse_partitions(text: str) -> list[int]:
    """Read the numbers of partitions of formulas; an optimum on a face needs three."""
    return parse_numbers("--partitions", text, "partitions", least=3)
