"""Figures saved with names in any script: by the fonts installed here, and in escapes where no font has a character.

matplotlib reads `$` as the beginning of a formula, and warns on the terminal of characters that its font lacks.
"""

import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import Formatter, FuncFormatter

OWN = "DejaVu Sans"
"""matplotlib brings this font."""
_NO_FONTS = ("Last Resort", "Emoji", "cmr", "cmb", "cms", "cmt", "cmm", "cme", "STIX")
"""Boxes in place of characters, pictures that cannot be scaled, and fonts of formulas in an encoding of their own."""


def save(figure: Figure, target: Path | BinaryIO, **options: object) -> None:
    """Save a figure; `options` are those of `Figure.savefig`. Only a figure with unusual characters is changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _letter(figure)
        figure.savefig(target, **options)  # type: ignore[arg-type]


def drawable(text: str) -> str:
    """Return a text as matplotlib draws it: no formula, and an escape for a character that no font here has."""
    shown = (character if _fonts(character) else _escaped(character) for character in text)
    return "".join(shown).replace("$", r"\$")


def _letter(figure: Figure) -> None:
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    ticks = {axis: [label.get_text() for label in axis.get_ticklabels()] for axis in axes if _is_of_names(axis)}
    labels = {label for axis in ticks for label in axis.get_ticklabels()}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in labels]
    odd = [text for text in texts if _is_odd(text.get_text())]
    odd_axes = [axis for axis, found in ticks.items() if any(map(_is_odd, found))]
    if not odd and not odd_axes:
        return
    written = [text.get_text() for text in odd] + [label for axis in odd_axes for label in ticks[axis]]
    families = [OWN, *_families("".join(written))]
    for text in odd:
        text.set_text(drawable(text.get_text()))
        text.set_fontfamily(families)
    for axis in odd_axes:
        axis.set_major_formatter(_drawable_by(axis.get_major_formatter()))
        axis.set_tick_params(labelfontfamily=families)


def _is_of_names(axis: Axis) -> bool:
    return isinstance(axis.get_major_formatter(), FuncFormatter | StrCategoryFormatter)


def _drawable_by(formatter: Formatter) -> FuncFormatter:
    return FuncFormatter(lambda value, place: drawable(str(formatter(value, place))))


def _is_odd(text: str) -> bool:
    return "$" in text or any(ord(one) not in _characters(_own_path()) for one in text if one != "\n")


def _families(text: str) -> Iterable[str]:
    return dict.fromkeys(font for one in text if (font := _fonts(one)) and font != OWN)


@cache
def _fonts(character: str) -> str | None:
    """Name an installed font with a character, matplotlib's own first."""
    if character == "\n" or ord(character) in _characters(_own_path()):
        return OWN
    return next((name for name, path in _installed() if ord(character) in _characters(path)), None)


def _installed() -> Iterator[tuple[str, str]]:
    for one in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if one.style == "normal" and str(one.weight) in ("400", "normal") and not _is_left_out(one.name):
            yield one.name, one.fname


def _is_left_out(name: str) -> bool:
    return name.startswith(_NO_FONTS) or "Emoji" in name


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a font of another kind, or removed since it was listed
        return frozenset()


@cache
def _own_path() -> str:
    return font_manager.findfont(OWN)


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")
