"""Numbers as programs and spreadsheets write them: decimal commas, percent, and fields without a single meaning.

A field such as 3,192 may be 3.192 or 3192. The other fields of its file decide, or the field is refused.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from objectives.held_out import Floats

MOST_NAMED = 3
"""Most runs in a message."""
MOST_SHOWN = 60
"""Most characters of a field in a message."""

_DECIMAL = re.compile(r"[+-]?(?P<whole>\d*)(?P<mark>[.,])(?P<rest>\d+)(e[+-]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(
    r"[+-]?\d{1,3}(?P<between>[., '\u2019\u00a0\u202f])(?:\d{2,3}(?P=between))*\d{3}(?:(?!(?P=between))[.,]\d+)?"
)
_NOTHING = frozenset({"", "na", "n/a", "#n/a", "null", "none", "-", "--", "?", "#div/0!", "#value!", "#num!"})


class Cell(NamedTuple):
    """A field of a column, with the run and the line it belongs to."""

    line: int
    run: str
    text: str


@dataclass(frozen=True)
class Column:
    """A column (N,) of finite numbers, or its fault; then `numbers` is empty.

    is_text: no field is a number, and some are words.
    is_percent: the fields had percent signs, and are divided by 100.
    """

    numbers: Floats
    fault: str = ""
    is_text: bool = False
    is_percent: bool = False


class _Field(NamedTuple):
    """A field as a number: NaN if missing, text, or without a single meaning for the reason in `problem`."""

    number: float
    is_text: bool = False
    is_percent: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Marks:
    """The decimal marks of a file beyond doubt."""

    commas: bool
    points: bool

    @classmethod
    def of(cls, fields: Iterable[str]) -> "Marks":
        sure = {_sure_mark(_plain(field)[0]) for field in fields}
        return cls("," in sure, "." in sure)

    def beside(self, other: "Marks") -> "Marks":
        """Take the commas of the swarm's other file if this one decides nothing."""
        return other if other.commas and not (self.commas or self.points or other.points) else self

    def read(self, field: str) -> _Field:
        """Read a field. Doubtful marks are read as the sure ones of the file; without those, points are decimal."""
        text, percent = _plain(field)
        if text.lower() in _NOTHING:
            return _Field(math.nan)
        if self._is_doubtful(text):
            point = text.replace(",", ".")
            other = re.sub("[.,]", "", text)
            return _Field(math.nan, problem=f"{shown(field)} may mean {point} or {other}; write it without doubt")
        try:
            number = float(text.replace(",", ".", 1) if _DECIMAL.fullmatch(text) else text)
        except ValueError:
            grouped = _GROUPED.fullmatch(text)
            problem = f"{shown(field)} has thousands separators; write it without them" if grouped else ""
            return _Field(math.nan, is_text=not grouped, problem=problem)
        return _Field(number / 100 if percent else number, is_percent=percent)

    def _is_doubtful(self, text: str) -> bool:
        """Tell whether a mark may separate thousands: three digits follow, and no other field decides."""
        found = _DECIMAL.fullmatch(text)
        if found is None or _sure_mark(text):
            return False
        return self.commas if found["mark"] == "." else self.points or not self.commas


def read_column(name: str, cells: Sequence[Cell], marks: Marks) -> Column:
    """Read a column, or word its fault: the line, the run, the field and a remedy."""
    fields = [marks.read(cell.text) for cell in cells]
    pairs = list(zip(cells, fields, strict=True))
    bad = [(cell, field) for cell, field in pairs if not math.isfinite(field.number)]
    is_text = len(bad) == len(cells) and any(field.is_text for _, field in bad)
    if is_text and not any(field.problem for _, field in bad):
        cell = next(cell for cell, field in bad if field.is_text)
        fault = f"column {shown(name)} is text, not numbers: line {cell.line} has {shown(cell.text)}"
        return Column(np.empty(0), fault, is_text=True)
    if bad:
        return Column(np.empty(0), _fault(name, bad))
    percent = [cell for cell, field in pairs if field.is_percent]
    plain = [cell for cell, field in pairs if not field.is_percent and field.number]
    if percent and plain:
        one, other = percent[0], plain[0]
        message = f"{shown(one.text)} in line {one.line} is percent, {shown(other.text)} in line {other.line} is not"
        return Column(np.empty(0), f"column {shown(name)}: {message}; write all of them alike")
    return Column(np.array([field.number for field in fields]), is_percent=bool(percent))


def _fault(name: str, bad: Sequence[tuple[Cell, _Field]]) -> str:
    cell, field = bad[0]
    where = f"line {cell.line}, run {shown(cell.run)}, column {shown(name)}: "
    if field.problem:
        return f"{where}{field.problem}"
    is_word = field.is_text or cell.text.lower() in _NOTHING
    others = [other.run for other, _ in bad[1:]]
    more = f", and none for {len(others)} more ({listed(others)})" if others else ""
    them = "these runs" if others else "the run"
    what = "a number" if is_word else "a finite number"
    return f"{where}expected {what}, got {shown(cell.text)}{more}; correct it, or remove {them} from both files"


def listed(runs: Sequence[str]) -> str:
    some = ", ".join(map(shown, runs[:MOST_NAMED]))
    return some if len(runs) <= MOST_NAMED else f"{some} ..."


def shown(text: str) -> str:
    return repr(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}...")


def _sure_mark(text: str) -> str:
    """Return a number's decimal mark, or "" if the mark may separate thousands."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        return ""
    grouped = len(found["rest"]) == 3 and 1 <= len(found["whole"]) <= 3 and not found["whole"].startswith("0")
    return "" if grouped and found[4] is None else found["mark"]


def _plain(field: str) -> tuple[str, bool]:
    """Return a field without percent sign and with a plain minus, and whether there was a percent sign."""
    text = field.strip().replace("\u2212", "-")
    return text.removesuffix("%").strip(), text.endswith("%")
