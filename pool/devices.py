"""Which devices training processes share out."""

import os
from collections.abc import Sequence

NO_DEVICE = "cpu"


def visible_devices() -> tuple[str, ...]:
    """Name the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES does; none without CUDA."""
    import torch  # seconds, which a command without several processes need not take

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    return tuple(given.split(",")) if given else tuple(map(str, range(torch.cuda.device_count())))


def shared_out(devices: Sequence[str], gpus: float | None) -> tuple[str, ...]:
    """Return what CUDA_VISIBLE_DEVICES says for each share of `devices`, in their order; empty to leave it as it is.

    A share is one device, or as many as the whole number `gpus` says; those too few for another share are left over.
    `cpu` among the devices, and 0 GPUs, are a share without any.
    """
    if gpus == 0:
        return ("",)
    size = max(1, int(gpus or 1))
    usable = ["" if device == NO_DEVICE else device for device in devices]
    return tuple(",".join(usable[first : first + size]) for first in range(0, len(usable) - size + 1, size))
