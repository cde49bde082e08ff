"""The picture of `compare`: regret against merges, forward-equivalents, held-out tokens and seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from objectives.held_out import Floats
from studies.answers.picture import saved
from studies.assessment.comparison.comparison import Comparison, Contender
from studies.assessment.comparison.course import Axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, for colour-blind readers too."""
STYLES = ("-", "--")
LEAST_FLOOR = 1e-6
"""Regret below this is rounding."""
LABELS: dict[Axis | None, str] = {
    None: "merges",
    "forwards": "forward-equivalents",
    "tokens": "held-out tokens read",
    "seconds": "seconds, proposing included",
}


def draw_comparison(comparison: Comparison, path: Path) -> Path:
    """Draw median and range over the seeds from where every seed has a value; return the path."""
    shown = [axis for axis in LABELS if axis is None or _is_spent(comparison, axis)]
    figure = Figure(figsize=(1.6 + 3.5 * len(shown), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    floor = _floor(comparison)
    for axes, axis in zip(panels, shown, strict=True):
        for at, one in enumerate(comparison.contenders):
            _draw(axes, comparison, one, axis, floor, (COLOURS[at % len(COLOURS)], STYLES[at // len(COLOURS) % 2]))
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(LABELS[axis])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"regret from the best known ({comparison.measure})")
    seeds = f"{comparison.seeds} seed{'s' * (comparison.seeds > 1)}"
    figure.suptitle(f"{comparison.name}: median and range of {seeds}; less than {floor:.1g} drawn there")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return saved(figure, path, dpi=110)


def _draw(
    axes: Axes, comparison: Comparison, one: Contender, axis: Axis | None, floor: float, look: tuple[str, str]
) -> None:
    amounts, spreads = _steps(one, axis)
    middle, low, high = np.maximum(comparison.regret(spreads), floor)
    colour, style = look
    axes.step(amounts, middle, where="post", color=colour, linestyle=style, label=one.name)
    axes.plot(amounts[-1:], middle[-1:], ".", color=colour)  # else a fall at the very end looks like the frame
    axes.fill_between(amounts, low, high, step="post", color=colour, alpha=0.15, linewidth=0)


def _steps(one: Contender, axis: Axis | None) -> tuple[Floats, Floats]:
    """Return the amounts spent at changes (N,), and median, least and greatest value there (3, N)."""
    spent = [course.spent(axis or "forwards") for course in one.courses]
    first, last = max(each[0] for each in spent), max(each[-1] for each in spent)
    amounts = np.unique(np.concatenate(spent))
    amounts = amounts[(amounts >= first) & (amounts <= last)]
    spreads = np.array([one.spread_at(axis or "forwards", amount) for amount in amounts]).T
    return (amounts if axis else amounts / one.forwards_per_merge), spreads


def _is_spent(comparison: Comparison, axis: Axis) -> bool:
    """Predictions from a swarm read no held-out text."""
    return any(one.median_spent(axis) > 0 for one in comparison.contenders)


def _floor(comparison: Comparison) -> float:
    ends: Sequence[float] = [value for one in comparison.contenders for value in one.ends]
    above = [regret for regret in comparison.regret(np.array(ends)) if regret > LEAST_FLOOR]
    return max(LEAST_FLOOR, min(above, default=LEAST_FLOOR) / 2)
