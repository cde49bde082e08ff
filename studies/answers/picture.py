"""The picture of a study: weights of the best mixture, and best loss against merges."""

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from objectives.target import Direction
from pool.files.whole import new_files, write_bytes, writing_to
from pool.mixture import Mixture
from search.trials import completed_trials, value_of
from studies.answers.best import Best
from studies.answers.lettering import save

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
"""Colours of all pictures, told apart by the colour-blind (Okabe and Ito 2008)."""
_BASELINE_STYLES = {"uniform": "--", "proportional": ":", "best_single_member": "-."}


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
    bars = axes.barh(names, list(weights.values()), color=BLUE)
    axes.bar_label(bars, labels=[f"{weight:.1%}" for weight in weights.values()], padding=3, fontsize=9)
    axes.set_xlim(0, max(weights.values()) * 1.18)
    axes.set_xlabel("weight in the mixture")
    axes.spines[["top", "right"]].set_visible(False)


def best_so_far(values: Sequence[float], direction: Direction) -> list[float]:
    return list(accumulate(values, max if direction == "maximise" else min))


def draw_progress(
    axes: Axes, values: Sequence[float], baselines: Mapping[str, float], direction: Direction = "minimise"
) -> None:
    """Draw the value of each merge in order, the best so far, and the baselines named in `_BASELINE_STYLES`."""
    merges = range(1, len(values) + 1)
    axes.plot(merges, values, ".", color=GREY, alpha=0.6, label="each merge")
    axes.step(merges, best_so_far(values, direction), where="post", color=BLUE, linewidth=2, label="best so far")
    for name, value in baselines.items():
        label = f"{name.replace('_', ' ')}: {value:.3f}"
        axes.axhline(value, linestyle=_BASELINE_STYLES[name], color=ORANGE, linewidth=1.3, label=label)
    axes.set_xlabel("merges")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
