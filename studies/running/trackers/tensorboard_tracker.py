"""TensorBoard: event files under FOLDER/tensorboard/STUDY, looked at with `tensorboard --logdir`."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class TensorboardTracker:
    """Writes one scalar per figure; every command adds an event file to the study's folder."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def start(study: str, folder: Path) -> TensorboardTracker:
    """Start a tracker for a study."""
    return TensorboardTracker(folder / "tensorboard" / study)
