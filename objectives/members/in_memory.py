"""Arrays filled in memory: the device's, or the host's, which streams to the device while it merges."""

from collections.abc import Iterator, Mapping

import torch

from objectives.members.arrays import InMemory, Shape, Stored


def filled(
    shapes: Mapping[str, Shape], rows: Iterator[tuple[str, torch.Tensor]], device: torch.device, *, streamed: bool
) -> dict[str, Stored]:
    """Fill arrays with the rows of each, in their order; `streamed` ones lie in the host, but for small ones.

    Host memory is pinned where the device is a GPU: copies from it are asynchronous. On a CPU there is nowhere to
    stream to, and both are the same.
    """
    tensors = {name: _empty(shape, device, streamed and not shape.small) for name, shape in shapes.items()}
    done = dict.fromkeys(shapes, 0)
    for name, row in rows:
        tensors[name][done[name]].copy_(row)
        done[name] += 1
    assert all(done[name] == shape.rows for name, shape in shapes.items()), "a form yields every row"
    return {name: InMemory(tensor, device) for name, tensor in tensors.items()}


def _empty(shape: Shape, device: torch.device, streamed: bool) -> torch.Tensor:
    size = (shape.rows, shape.columns)
    if streamed and device.type == "cuda":
        return torch.empty(size, dtype=shape.dtype, pin_memory=True)
    return torch.empty(size, dtype=shape.dtype, device=device)
