"""Which devices training processes share out."""

import os


def visible_devices() -> tuple[str, ...]:
    """Name the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES does; none without CUDA."""
    import torch  # seconds, which a command without several processes need not take

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    return tuple(given.split(",")) if given else tuple(map(str, range(torch.cuda.device_count())))
