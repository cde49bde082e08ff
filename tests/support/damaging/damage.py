"""Four ways of damaging a file, as power cuts, full disks and failing disks do."""

from collections.abc import Callable, Mapping
from pathlib import Path


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


WAYS: Mapping[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": _empty,
    "cut short": _cut_short,
    "a byte changed": _change_a_byte,
}
