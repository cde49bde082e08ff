"""The picture of a study: weights of the best mixture, and best loss against merges."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import optuna
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from objectives.held_out import CONFIDENT
from objectives.target import Direction
from pool.corpus.corpus import SPLITS
from pool.files.whole import new_files, write_bytes, writing_to
from pool.mixture import Mixture
from search.trials import completed_trials, value_of
from studies.answers.ages import Ages
from studies.answers.best import Best
from studies.answers.lettering import save
from studies.answers.tables import used_partitions

BETTER, WORSE, PREDICTED, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#666666", "#000000"
"""Colours of all pictures, told apart by the colour-blind (Okabe and Ito 2008), each with one meaning.

BETTER is also the best mixture, WORSE also what was judged to be worse; GREY and INK mean neither. A colour is never
the only difference between two marks.
"""
WORSE_TO_BETTER = LinearSegmentedColormap.from_list("worse-to-better", (WORSE, "#F7F7F7", BETTER))
_COLOURS, _LINES = ("#AA4499", "#999933", INK, GREY), ("-", "--", ":", "-.")
"""Of partitions: none of them means better or worse."""
_BASELINE_STYLES = {"uniform": "--", "proportional": ":", "best_single_member": "-."}
_STYLE_OF_TEXT = (0, (5, 1, 1, 1, 1, 1))
"""Of mixtures from text alone."""


def draw_study(best: Best, study: optuna.Study, path: Path) -> Path:
    """Draw in the format of the path's suffix, and return the path."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_weights(left, best.mixture)
    left.set_title(f"Best mixture of study {best.study}", loc="left")
    baselines = {name: best.baselines[name].scores["search"].value for name in _BASELINE_STYLES}
    draw_progress(right, [value_of(trial) for trial in completed_trials(study)], baselines)
    score = best.best.scores["search"]
    measure = score.goal.measure.replace("-", " ")
    right.set_ylabel(f"held-out loss, search split ({measure})")
    right.set_title(f"Best {score.value:.3f} after {best.counts.merges} merges", loc="left")
    return saved(figure, path, dpi=120)


def saved(figure: Figure, path: Path, *, dpi: int) -> Path:
    """Save a figure whole, and make its folder. Raises `OutputError`."""
    image = io.BytesIO()
    save(figure, image, dpi=dpi, format=path.suffix.removeprefix("."))
    with writing_to(path), new_files(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, image.getvalue())
    return path


def draw_weights(axes: Axes, mixture: Mixture) -> None:
    weights = dict(sorted(mixture.as_dict().items(), key=lambda item: item[1]))
    names = [name.replace("_", " ") for name in weights]
    bars = axes.barh(names, list(weights.values()), color=BETTER)
    axes.bar_label(bars, labels=[f"{weight:.1%}" for weight in weights.values()], padding=3, fontsize=9)
    axes.set_xlim(0, max(weights.values()) * 1.18)
    axes.set_xlabel("weight in the mixture")
    axes.spines[["top", "right"]].set_visible(False)


def best_so_far(values: Sequence[float], direction: Direction) -> list[float]:
    return list(accumulate(values, max if direction == "maximise" else min))


def draw_progress(
    axes: Axes, values: Sequence[float], baselines: Mapping[str, float], direction: Direction = "minimise"
) -> None:
    """Draw the value of each merge in order, the best so far, and the baselines."""
    merges = range(1, len(values) + 1)
    axes.plot(merges, values, ".", color=GREY, alpha=0.6, label="each merge")
    axes.step(merges, best_so_far(values, direction), where="post", color=BETTER, linewidth=2, label="best so far")
    for name, value in baselines.items():
        label = f"{name.replace('_', ' ')}: {value:.3f}"
        axes.axhline(value, linestyle=_BASELINE_STYLES.get(name, _STYLE_OF_TEXT), color=INK, linewidth=1.3, label=label)
    axes.set_xlabel("merges")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def draw_ages(found: Ages, path: Path) -> Path:
    """Draw in the format of the path's suffix, and return the path."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_weights_by_age(left, found)
    left.legend(frameon=False, fontsize=9)
    left.set_title(f"Best mixture of study {found.study} by age", loc="left")
    draw_regret_by_age(right, found)
    right.legend(frameon=False, fontsize=9)
    right.set_title("Settled" if found.settled else "NOT settled", loc="left")
    return saved(figure, path, dpi=120)


def draw_weights_by_age(axes: Axes, found: Ages) -> None:
    """Draw a line a partition, the heaviest at the end first; partitions without weight are left out."""
    tokens = [age.tokens for age in found.ages]
    for number, name in enumerate(used_partitions(found)):
        weights = [age.weights[name] for age in found.ages]
        colour, line = _COLOURS[number % 4], _LINES[number // 4 % 4]
        axes.plot(tokens, weights, line, marker="o", markersize=4, color=colour, label=name.replace("_", " "))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("weight in the best mixture")
    _over_tokens(axes)


def draw_regret_by_age(axes: Axes, found: Ages) -> None:
    """Draw how much worse each age's best mixture is at the end, with 95 % intervals, and the small regret."""
    tokens = [age.tokens for age in found.ages]
    for split, colour, marker in zip(SPLITS, (GREY, INK), "so", strict=True):
        paired = [age.regret_at_end[split] for age in found.ages]
        errors = [CONFIDENT * one.standard_error if math.isfinite(one.standard_error) else 0.0 for one in paired]
        regrets = [one.difference for one in paired]
        axes.errorbar(tokens, regrets, yerr=errors, color=colour, marker=marker, capsize=3, label=f"{split} split")
    axes.axhline(found.margin, linestyle="--", color=GREY, linewidth=1, label=f"small: {found.margin:.4f}")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_ylabel("worse than the best, at the members' end")
    _over_tokens(axes)


def _over_tokens(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("tokens read by each member")
    axes.spines[["top", "right"]].set_visible(False)
