"""The picture of a fidelity report: proxy against truth, and agreement by domain."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from objectives.held_out import CONFIDENT
from pool.corpus.corpus import Split
from studies.answers.picture import BETTER, GREY, INK, saved
from studies.assessment.fidelity.fidelity import Fidelity
from studies.assessment.fidelity.readings import VALUE
from studies.terminal import digits

_MARKED = {"best": (BETTER, "*", 170), "uniform": (INK, "s", 55), "proportional": (INK, "^", 65)}


def draw_fidelity(fidelity: Fidelity, split: Split, path: Path) -> Path:
    """Draw in the format of the path's suffix, and return the path."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    draw_scatter(left, fidelity, split)
    draw_domains(right, fidelity, split)
    return saved(figure, path, dpi=100)


def draw_scatter(axes: Axes, fidelity: Fidelity, split: Split) -> None:
    """Draw trained against merged values."""
    agreed = fidelity.by_split[split]
    proxy, truth = agreed.proxy[VALUE], agreed.truth[VALUE]
    both = np.concatenate([proxy, truth])
    ends = np.array([both.min(), both.max()]) + np.array([-0.04, 0.04]) * max(float(np.ptp(both)), 1e-3)
    axes.plot(ends, ends, "--", color=GREY, linewidth=1, label="merge = training")
    if VALUE in agreed.noise:
        bar, label = CONFIDENT * agreed.noise[VALUE].deviation, "95 %, data order"
        axes.errorbar(proxy, truth, yerr=bar, fmt="none", ecolor=GREY, elinewidth=1, capsize=2, label=label)
    others = np.array([name not in _MARKED for name in fidelity.mixtures])
    axes.scatter(proxy[others], truth[others], s=36, color=GREY, label="other mixtures", zorder=3)
    for row, name in enumerate(fidelity.mixtures):
        if name in _MARKED:
            color, marker, size = _MARKED[name]
            axes.scatter(proxy[row], truth[row], s=size, color=color, marker=marker, label=name, zorder=4)
    axes.set_xlabel(f"merged (proxy), {fidelity.measure.replace('-', ' ')}")
    axes.set_ylabel("really trained")
    spearman, regret = (agreed.agreement[VALUE][name].value for name in ("spearman", "regret_at_1"))
    axes.set_title(
        f"{fidelity.study}, {split} split: Spearman {digits(spearman, '.2f')}, regret@1 {regret:.4f}", loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def draw_domains(axes: Axes, fidelity: Fidelity, split: Split) -> None:
    """Draw each domain's Spearman correlation with its interval."""
    agreement = fidelity.by_split[split].agreement
    names = [*(name for name in agreement if name != VALUE), VALUE]
    for place, name in enumerate(names):
        one = agreement[name]["spearman"]
        if math.isfinite(one.value):
            spread = [[one.value - one.low], [one.high - one.value]]
            color = INK if name == VALUE else GREY
            axes.errorbar(one.value, place, xerr=spread, fmt="D" if name == VALUE else "o", color=color, capsize=3)
    shown = ["the study's value" if name == VALUE else name.replace("_", " ") for name in names]
    axes.set_yticks(range(len(names)), shown)
    axes.axvline(0, color=GREY, linewidth=0.8)
    lows = [agreement[name]["spearman"].low for name in names]
    axes.set_xlim(min([0.0, *(low for low in lows if math.isfinite(low))]) - 0.03, 1.03)
    axes.set_xlabel("Spearman, 95 % interval over mixtures")
    axes.set_title("By held-out domain", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
