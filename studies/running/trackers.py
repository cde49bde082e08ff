"""Trackers: progress in TensorBoard, MLflow or Weights & Biases, each imported only on demand."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from pool.errors import ConfigError
from search.trials import Counts
from studies.study_file.sections import TrackerName


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

        self._writer = SummaryWriter(str(folder / "tensorboard" / study))

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


@contextmanager
def tracking(name: TrackerName | None, study: str, folder: Path) -> Iterator[Tracker | None]:
    """Open a tracker under `folder`, and close it; None without a name. Raises `ConfigError` without its extra."""
    if name is None:
        yield None
        return
    try:
        tracker = TRACKERS[name](study, folder)
    except ImportError as error:
        raise ConfigError(
            f"[search] tracker = {name!r} needs {error.name or name}: pip install 'mixscout[{name}]'"
        ) from None
    try:
        yield tracker
    finally:
        tracker.close()


def figures_of(counts: Counts, best: float) -> dict[str, float]:
    """Name the figures of a step; `best` is in the objective's measure."""
    return {
        "best": best,
        "merges": float(counts.merges),
        "pruned": float(counts.pruned),
        "audited": float(counts.audited),
        "stopped_early": float(counts.stopped_early),
        "tokens_read": float(counts.tokens_read),
    }


def step_of(counts: Counts) -> int:
    """Number a step by the study's finished trials, so that a resumed search counts on."""
    return counts.merges + counts.pruned
