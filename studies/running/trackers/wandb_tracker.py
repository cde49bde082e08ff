"""Weights & Biases: a run under FOLDER/wandb, offline unless WANDB_MODE says otherwise; `wandb sync` uploads it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import wandb


class WandbTracker:
    """Logs every figure of a step at once."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Finish the run, and wait for the process that writes it: its last rows may still be under way."""
        self._run.finish()
        wandb.teardown()


def start(study: str, folder: Path) -> WandbTracker:
    """Start a tracker for a study; every command is a run of the study's group."""
    folder.mkdir(parents=True, exist_ok=True)
    mode: Literal["online", "offline"] = "online" if os.environ.get("WANDB_MODE") == "online" else "offline"
    settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    return WandbTracker(wandb.init(project="mixscout", group=study, dir=str(folder), mode=mode, settings=settings))
