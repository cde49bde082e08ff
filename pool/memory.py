"""Running out of memory in training: told apart from other errors, and answered with smaller parts of a batch."""

import gc

import torch

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was too small: the device's, or this machine's as far as Python or torch are told."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def smaller_part(part_windows: int, batch_windows: int) -> int:
    """Return the largest divisor of the batch (B) that is at most half the part, so that parts sum to the batch.

    1 is the smallest part; `part_windows` must be above that.
    """
    return next(part for part in range(part_windows // 2, 0, -1) if batch_windows % part == 0)


def give_back_memory() -> None:
    """Free what a failed attempt left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
