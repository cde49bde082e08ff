"""Draw the figures of the explanations: `PYTHONPATH=. python docs/figures/draw.py`. Formulas only; no study is read."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from scipy.special import ndtr

from search.space import CappedSimplex

HERE = Path(__file__).parent
BETTER, WORSE, PLAIN, FAINT = "#1f77b4", "#d95f02", "#444444", "#bbbbbb"
mpl.rcParams |= {"svg.hashsalt": "mixscout", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}


def save(name: str) -> None:
    """Write the current figure, the same bytes every time."""
    plt.savefig(HERE / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight", facecolor="white")
    plt.close()


def windows() -> None:
    """A document of 13 tokens in windows of 6: disjoint predictions, and context for the last window."""
    _, axes = plt.subplots(figsize=(7.4, 3.3))
    words = ["EOT", *(f"t{n}" for n in range(1, 14))]
    for n, word in enumerate(words):
        _cell(axes, n, 3.2, word, FAINT if n == 0 else "#e8e8e8")
    axes.text(-0.3, 3.6, "document", ha="right", va="center")
    rows = [(0, 6, 1, "window 1"), (6, 12, 7, "window 2"), (7, 13, 13, "window 3")]
    for row, (first, last, scored, label) in enumerate(rows):
        y = 2.0 - row
        for n in range(first, last + 1):
            predicted = n >= scored
            color = BETTER if predicted else "#ffffff"
            _cell(axes, n, y, words[n], color, "white" if predicted else PLAIN)
        axes.text(-0.3, y + 0.4, label, ha="right", va="center")
    axes.set(xlim=(-2.6, 14.2), ylim=(-0.4, 4.3))
    axes.axis("off")
    axes.text(0, -0.35, "blue: predicted, once each    white: read as context only", color=PLAIN)
    save("windows")


def _cell(axes: Axes, x: float, y: float, text: str, color: str, ink: str = PLAIN) -> None:
    axes.add_patch(Rectangle((x, y), 0.94, 0.8, facecolor=color, edgecolor=PLAIN, linewidth=0.8))
    axes.text(x + 0.47, y + 0.4, text, ha="center", va="center", color=ink, fontsize=8.5)


def _place(weights: np.ndarray) -> np.ndarray:
    """Corners A left, B right, C top."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    return np.asarray(weights) @ corners


def projection() -> None:
    """The triangle of three partitions with a cap, and three points of the cube with their mixtures."""
    space = CappedSimplex.of("ABC", caps={"A": 0.5})
    _, axes = plt.subplots(figsize=(6.6, 4.4))
    axes.add_patch(Polygon(_place(np.eye(3)), closed=True, facecolor="#f4f4f4", edgecolor=PLAIN))
    allowed = [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0.5]]
    axes.add_patch(Polygon(_place(np.array(allowed)), closed=True, facecolor="#d6e6f4", edgecolor=BETTER))
    for name, (x, y), side in zip("ABC", _place(np.eye(3)), ("right", "left", "center"), strict=True):
        axes.text(
            x,
            y + (0.03 if name == "C" else 0),
            f" {name} ",
            ha=side,
            va="bottom" if name == "C" else "top",
            fontsize=12,
        )
    for point, shift in (([0.9, 0.7, 0.1], (12, -22)), ([0.2, 0.6, 0.5], (14, 4)), ([0.0, 0.2, 0.9], (14, 0))):
        weights = space.project(point).array
        start, end = _place(np.array(point) + (1 - sum(point)) / 3), _place(weights)
        if np.abs(start - end).max() > 1e-6:
            axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=PLAIN))
        axes.plot(*start, "o", mfc="white", mec=PLAIN)
        axes.plot(*end, "o", color=BETTER)
        label = f"({', '.join(f'{x:g}' for x in point)}) $\\rightarrow$ ({', '.join(f'{x:.2f}' for x in weights)})"
        axes.annotate(label, end, shift, textcoords="offset points", fontsize=9)
    axes.text(0.0, -0.25, "blue area: mixtures that the cap A ≤ 0.5 allows", color=BETTER)
    axes.set(xlim=(-0.15, 1.65), ylim=(-0.28, 1.0), aspect="equal")
    axes.axis("off")
    save("projection")


def gate() -> None:
    """Two predictions beside the incumbent: one is merged, one pruned."""
    _, axes = plt.subplots(figsize=(7.2, 3.2))
    loss, incumbent = np.linspace(4.45, 4.75, 400), 4.54
    for mean, deviation, height, name in ((4.56, 0.03, 1.0, "merged"), (4.64, 0.035, 0.0, "pruned")):
        density = np.exp(-(((loss - mean) / deviation) ** 2) / 2) * 0.8
        axes.plot(loss, height + density, color=PLAIN)
        axes.fill_between(loss, height, height + density, where=loss < incumbent, color=BETTER, alpha=0.7)
        chance = ndtr((incumbent - mean) / deviation)
        axes.text(4.76, height + 0.25, f"chance {chance:.3f}: {name}", va="center")
        axes.axhline(height, color=FAINT, linewidth=0.8, zorder=0)
    axes.axvline(incumbent, color=WORSE)
    axes.text(incumbent, 2.13, "incumbent", color=WORSE, ha="center")
    axes.set(ylim=(-0.05, 2.1), xlim=(4.45, 4.94), yticks=[], xticks=[4.45, 4.55, 4.65, 4.75])
    axes.set_xlabel("loss predicted by the surrogate (nats per token)", loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    save("gate")


def method() -> None:
    """Seed, members, merge and the really trained model, with what each costs."""
    _, axes = plt.subplots(figsize=(7.6, 3.6))
    _box(axes, 0.0, 1.5, "seed\ncheckpoint", "#eeeeee")
    for n, name in enumerate(("member A", "member B", "member C")):
        _box(axes, 2.6, 2.7 - 1.2 * n, name, "#d6e6f4")
        _arrow(axes, (1.6, 1.9), (2.6, 3.1 - 1.2 * n))
        _arrow(axes, (4.2, 3.1 - 1.2 * n), (5.4, 2.5))
    _box(axes, 5.4, 2.1, "merge of w\n(seconds)", BETTER, "white")
    _box(axes, 5.4, -0.6, "trained on w\n(a training)", "#eeeeee")
    _arrow(axes, (0.8, 1.5), (5.4, -0.2), style="angle,angleA=-90,angleB=180,rad=8")
    _box(axes, 8.0, 1.1, "held-out\nloss", "#eeeeee")
    _arrow(axes, (7.0, 2.5), (8.0, 1.7))
    _arrow(axes, (7.0, -0.2), (8.0, 1.2))
    axes.text(7.75, 2.35, "proxy", color=BETTER)
    axes.text(7.7, 0.3, "ground truth")
    axes.set(xlim=(-0.1, 9.8), ylim=(-0.8, 3.7))
    axes.axis("off")
    save("method")


def _box(axes: Axes, x: float, y: float, text: str, color: str, ink: str = PLAIN) -> None:
    axes.add_patch(Rectangle((x, y), 1.6, 0.8, facecolor=color, edgecolor=PLAIN))
    axes.text(x + 0.8, y + 0.4, text, ha="center", va="center", color=ink, fontsize=9.5)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, style: str = "arc3") -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=PLAIN, connectionstyle=style))


if __name__ == "__main__":
    windows()
    projection()
    gate()
    method()
