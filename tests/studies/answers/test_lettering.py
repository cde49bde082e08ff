"""Names in any script in pictures: nothing on the terminal, no formulas, and the same picture for names as ever."""

import io
import warnings

import pytest
from matplotlib.figure import Figure

from studies.answers.lettering import drawable, save


def _figure(names: list[str]) -> Figure:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.barh(names, range(1, len(names) + 1))
    axes.set_title(names[0])
    axes.set_xscale("log")
    return figure


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def test_a_picture_of_names_in_any_script_warns_of_nothing_and_shows_every_name() -> None:
    names = ["新闻", "أخبار", "café", "$x$ and $y", "🙂 \U0010fffd", "नमस्ते"]
    figure = _figure(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, io.BytesIO(), format="png")
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(shown)) == len(names) and shown[2] == "café" and shown[3] == r"\$x\$ and \$y"
    assert r"\U0010fffd" in shown[4] and "mathdefault" in figure.axes[0].get_xticklabels()[1].get_text()


def test_a_picture_of_plain_names_is_as_ever() -> None:
    image = io.BytesIO()
    save(_figure(["news", "wiki"]), image, format="png")
    assert image.getvalue() == _png(_figure(["news", "wiki"]))


@pytest.mark.parametrize(("text", "shown"), [("news", "news"), ("a$b", r"a\$b"), ("a\U0010fffd", r"a\U0010fffd")])
def test_a_text_is_drawable(text: str, shown: str) -> None:
    assert drawable(text) == shown
