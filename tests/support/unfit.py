"""A member's training that memory is too small for, as the system answers it: by killing the process."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pool.train
from pool.adapters import Trainable
from pool.attempt import Course, Run
from pool.building.job import Training
from pool.checkpoints.manifest import CheckpointManifest


@dataclass(frozen=True)
class Unfit:
    """A training whose process is killed when more than `fits` windows are trained at a time."""

    training: Training
    fits: int

    def __call__(self) -> CheckpointManifest:
        attempt = pool.train.attempt

        def limited(model: Trainable, run: Run, part: int) -> Course | None:
            if part > self.fits:
                os.kill(os.getpid(), signal.SIGKILL)
            return attempt(model, run, part)

        pool.train.attempt = limited
        return self.training()
