"""Names in any script, names of files made of them, and the paths of TOML files.

Paths are relative to a folder, with `~` and environment variables.
"""

import hashlib
import os
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

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


LONGEST = 200
_PLAIN = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")
_DERIVED = re.compile(r"[A-Za-z0-9._-]+~[0-9a-f]{12}")
_STEM = 40
_INVISIBLE = ("Cc", "Cs", "Zl", "Zp")
_TURNING = set(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Characters that turn the direction of writing: a name would be shown as another one."""


def file_name(name: str) -> str:
    """Return the name of a file or folder for a name: the name itself, if it is plain ASCII that every disk takes.

    Another name gives its letters in ASCII and a piece of its hash, so that names which differ in a case, an accent or
    a slash alone have different files. The result of this function stays as it is.
    """
    if _PLAIN.fullmatch(name) or _DERIVED.fullmatch(name):
        return name
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")[:_STEM]
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{stem or 'name'}~{mark}"


def _is_name(name: str) -> str:
    if not 0 < len(name) <= LONGEST or name != name.strip():
        raise ValueError(f"a name is 1 to {LONGEST} characters without spaces at its ends")
    hidden = [one for one in name if unicodedata.category(one) in _INVISIBLE or one in _TURNING]
    if hidden:
        raise ValueError(f"a name has no control characters and no line breaks: leave U+{ord(hidden[0]):04X} out")
    if _DERIVED.fullmatch(name):
        raise ValueError("a name of this form, ending in `~` and twelve digits, is that of a file: choose another")
    return name


Name = Annotated[str, AfterValidator(_is_name)]
"""A name in any script; files bear its `file_name`."""
