"""A member's training that memory is too small for, as the system answers it: by killing the process."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from transformers import Trainer

import pool.train
from pool.adapters import Trainable
from pool.manifest import CheckpointManifest
from pool.training import Training


@dataclass(frozen=True)
class Unfit:
    """A training whose process is killed when more than `fits` windows are trained at a time."""

    training: Training
    fits: int

    def __call__(self) -> CheckpointManifest:
        trained = pool.train._trained

        def limited(model: Trainable, run: pool.train._Run, part: int) -> Trainer | None:
            if part > self.fits:
                os.kill(os.getpid(), signal.SIGKILL)
            return trained(model, run, part)

        pool.train._trained = limited
        return self.training()
