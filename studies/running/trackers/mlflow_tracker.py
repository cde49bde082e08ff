"""MLflow: a run in FOLDER/mlflow.db, or wherever MLFLOW_TRACKING_URI says; a study that goes on goes on in its run."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient


class MlflowTracker:
    """Writes one metric per figure into a run, through a client of its own: no global run is touched."""

    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client = client
        self._run = run

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        now = round(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(name, value, now, step) for name, value in figures.items()])

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def start(study: str, folder: Path) -> MlflowTracker:
    """Start a tracker for a study."""
    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
    name = f"mixscout-{study}"
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name, str(folder / "mlflow"))
    runs = client.search_runs([experiment], max_results=1)
    run = runs[0].info.run_id if runs else client.create_run(experiment, run_name=study).info.run_id
    client.update_run(run, status="RUNNING")
    return MlflowTracker(client, run)
