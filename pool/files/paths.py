"""Paths of TOML files: relative to a folder, with `~` and environment variables; and paths for a command line."""

import os
import re
import shlex
from pathlib import Path

from pool.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def located(base: Path, path: Path) -> Path:
    """Return `base / path`, with a leading `~` and environment variables replaced; an existing `$a/b` stays as it is.

    Raises `ConfigError` naming a variable without a value.
    """
    for count, part in enumerate(path.parts, start=1):
        if _VARIABLE.search(part) or (count == 1 and part.startswith("~")):
            break
    else:
        return base / path
    if os.path.lexists(base.joinpath(*path.parts[:count])):
        return base / path
    home = os.path.expanduser(path)  # noqa: PTH111  Path.expanduser raises for `~name` of nobody, say a pattern `~*`
    return base / _VARIABLE.sub(_value_of, str(home))


def as_typed(path: Path) -> str:
    """Return a path as a word of a command line: relative where it lies in the working directory."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if inside else path))


def _value_of(found: re.Match[str]) -> str:
    name = found[1] or found[2]
    if not os.environ.get(name):
        raise ConfigError(
            f"{found.string!r}: the environment variable {name} is not set; set it, or write the path out"
        )
    return os.environ[name]
