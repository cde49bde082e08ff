"""Trackers: progress in TensorBoard, MLflow or Weights & Biases, each imported only on demand."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from pool.errors import ConfigError, StudyError, first_line
from pool.files.names import file_name
from pool.files.secrets import secrets_of_environment, without_passwords, without_secrets
from search.trials import Counts
from studies.study_file.search_sections import TrackerName


class Tracker(Protocol):
    """Takes down figures by step, in rising order of steps."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""

    def close(self) -> None:
        """Write the rest; nothing is logged afterwards."""


class TensorboardTracker:
    """One event file a command, under FOLDER/tensorboard/STUDY."""

    def __init__(self, study: str, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard" / file_name(study)))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MlflowTracker:
    """One run a study, in FOLDER/mlflow.db or at MLFLOW_TRACKING_URI, by a client of its own."""

    def __init__(self, study: str, folder: Path) -> None:
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
        name = f"mixscout-{study}"
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name, str(folder / "mlflow"))
        runs = self._client.search_runs([experiment], max_results=1)
        run = runs[0] if runs else self._client.create_run(experiment, run_name=study)
        self._run = run.info.run_id
        self._client.update_run(self._run, status="RUNNING")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        now = round(time.time() * 1000)
        self._client.log_batch(self._run, [self._metric(name, value, now, step) for name, value in figures.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)


class WandbTracker:
    """One run a command in the study's group, under FOLDER/wandb; offline unless WANDB_MODE says otherwise."""

    def __init__(self, study: str, folder: Path) -> None:
        import wandb

        self._teardown = wandb.teardown
        folder.mkdir(parents=True, exist_ok=True)
        mode: Literal["online", "offline"] = "online" if os.environ.get("WANDB_MODE") == "online" else "offline"
        settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
        self._run = wandb.init(project="mixscout", group=study, dir=str(folder), mode=mode, settings=settings)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()
        self._teardown()  # waits for the process that writes the last rows


TRACKERS: Mapping[TrackerName, Callable[[str, Path], Tracker]] = {
    "tensorboard": TensorboardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}


def check_tracker(name: TrackerName | None) -> None:
    """Raise `ConfigError` for a tracker whose extra is not installed."""
    if name is not None and find_spec(name) is None:
        raise _not_installed(name, name)


def _not_installed(name: TrackerName, missing: str) -> ConfigError:
    return ConfigError(f"[search] tracker = {name!r} needs {missing}: pip install 'mixscout[{name}]'")


@dataclass(frozen=True)
class Guarded:
    """A tracker whose library's errors become one line without secrets."""

    name: TrackerName
    tracker: Tracker

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        with _in_one_line(self.name):
            self.tracker.log(step, figures)

    def close(self) -> None:
        with _in_one_line(self.name):
            self.tracker.close()


@contextmanager
def _in_one_line(name: TrackerName) -> Iterator[None]:
    """Raise `StudyError` for an error of a tracker's library, which may quote an address with its password."""
    try:
        yield
    except ImportError as error:
        raise _not_installed(name, error.name or name) from None
    except Exception as error:  # libraries of a network raise many types
        said = without_secrets(without_passwords(first_line(error)), secrets_of_environment())
        raise StudyError(
            f"[search] tracker = {name!r} cannot be written to: {said}; no merge was lost: see to the tracker, or take "
            "it out of the study file, and run the same command again"
        ) from None


@contextmanager
def tracking(name: TrackerName | None, study: str, folder: Path) -> Iterator[Tracker | None]:
    """Open a tracker under `folder`, and close it; None without a name.

    Raises `ConfigError` without its extra, and `StudyError` for a tracker out of reach.
    """
    if name is None:
        yield None
        return
    with _in_one_line(name):
        tracker = TRACKERS[name](study, folder)
    guarded = Guarded(name, tracker)
    try:
        yield guarded
    finally:
        guarded.close()


def figures_of(counts: Counts, best: float) -> dict[str, float]:
    """Name the figures of a step; `best`, in the objective's measure, is left out while infinite."""
    return {
        **({"best": best} if math.isfinite(best) else {}),
        "merges": float(counts.merges),
        "pruned": float(counts.pruned),
        "audited": float(counts.audited),
        "stopped_early": float(counts.stopped_early),
        "tokens_read": float(counts.tokens_read),
    }


def step_of(counts: Counts) -> int:
    """Number a step by the study's finished trials, so that a resumed search counts on."""
    return counts.merges + counts.pruned
