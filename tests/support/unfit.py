"""A member's training that memory is too small for, as the system answers it: by killing the process."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pool.building.training.train
from pool.building.job import TrainingJob
from pool.building.training.attempt import Run, TrainingCourse
from pool.building.training.placement import Trainable
from pool.checkpoints.manifest import CheckpointManifest


@dataclass(frozen=True)
class Unfit:
    """A training whose process is killed when more than `fits` windows are trained at a time."""

    training: TrainingJob
    fits: int

    def __call__(self) -> CheckpointManifest:
        attempt = pool.building.training.train.attempt

        def limited(model: Trainable, run: Run, part: int) -> TrainingCourse | None:
            if part > self.fits:
                os.kill(os.getpid(), signal.SIGKILL)
            return attempt(model, run, part)

        pool.building.training.train.attempt = limited
        return self.training()
