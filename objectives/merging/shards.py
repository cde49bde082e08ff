"""A model in shards, one a device: each holds some of the layers, and the same layers of every member.

So a merge moves nothing between devices. A forward pass moves hidden states (B, T, width) from a shard to the next, by
accelerate's hooks. No product and no sum is divided: losses, and gradients of parameters, keep every bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from transformers import PreTrainedModel

from objectives.merging.members.arrays import Rows, Shape, StoredArray
from objectives.merging.members.form import FlatLayout, Form, HeldMembers
from objectives.merging.members.holding import Holding
from objectives.merging.members.pruned import PrunedForm
from objectives.merging.members.steps import StepsForm
from objectives.merging.members.whole import WholeForm
from pool.checkpoints.checkpoint import with_padding_as_text
from pool.errors import ConfigError
from pool.progress import say

_DTYPES = {"bfloat16": torch.bfloat16, "int8": torch.int8}


class Shard:
    """The parameters of a model on one device, as views of one buffer `flat` (P,); both are empty at first."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.layout = device, FlatLayout.of_tensors(parameters)
        self._parameters, self._dtype = parameters, dtype
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self._gradient: torch.Tensor | None = None
        self.flat = torch.empty(0, dtype=dtype, device=device)
        self.free(values=True)

    def give_values(self) -> None:
        """Give the parameters a buffer of zeros, unless they have one."""
        if self.flat.numel():
            return
        self.flat = torch.zeros(self.layout.size, dtype=self._dtype, device=self.device)
        for name, parameter in self._parameters.items():
            parameter.data = self.flat[self.layout.matrices[name].part].view(self._shapes[name])

    def copy(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the values of a whole model's tensors that belong here; gaps between them become zero."""
        self.flat.zero_()
        for name, matrix in self.layout.matrices.items():
            self.flat[matrix.part] = tensors[name].reshape(-1).to(self.device)

    def free(self, *, values: bool) -> None:
        """Free the gradient, and with `values` the buffer: parameters then have none until `give_values`."""
        self._gradient = None
        if values:
            self.flat = self.flat.new_empty(0)
        for parameter in self._parameters.values():
            parameter.grad = None
            parameter.data = self.flat if values else parameter.data

    def gradient(self) -> torch.Tensor:
        """Return the buffer (P,) behind the parameters' `.grad`, made at the first call."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.flat)
            for name, parameter in self._parameters.items():
                parameter.grad = self._gradient[self.layout.matrices[name].part].view(parameter.shape)
        return self._gradient


def devices_of(count: int, device: str | None = None) -> tuple[torch.device, ...]:
    """Name the devices of a model in `count` shards: the first GPUs, or the CPU as often.

    Raises `ConfigError` for too few GPUs.
    """
    first = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if count == 1:
        return (first,)
    if first.type != "cuda":
        say(f"no GPU here: the {count} shards of each model lie side by side in memory, and compute the same losses")
        return (first,) * count
    seen = torch.cuda.device_count()
    if seen < count:
        raise ConfigError(
            f"[objective] devices = {count} cuts each model over {count} GPUs, and this process sees {seen}: lower it, "
            f"or show more (by CUDA_VISIBLE_DEVICES; each of several workers takes its own by --num-gpus {count})"
        )
    return tuple(torch.device("cuda", number) for number in range(count))


def sharded(model: PreTrainedModel, devices: Sequence[torch.device], dtype: torch.dtype) -> tuple[Shard, ...]:
    """Move a model to its devices, without its values: each parameter is one of a shard's, and buffers move.

    Raises `ConfigError` for a model that cannot be cut.
    """
    places = cut(model, len(devices)) if len(devices) > 1 else {"": 0}
    shard_of = {tensor: number for name, number in places.items() for tensor in model.get_submodule(name).parameters()}
    tensors: list[dict[str, torch.Tensor]] = [{} for _ in range(1 + max(places.values()))]
    for name, parameter in model.named_parameters():
        tensors[shard_of[parameter]][name] = parameter
    shards = tuple(Shard(some, device, dtype) for some, device in zip(tensors, devices, strict=False))
    with_padding_as_text(model)
    if len(shards) == 1:
        torch.nn.Module.to(model, shards[0].device)
        return shards
    connect(model, {name: shards[number].device for name, number in places.items()})
    return shards


def connect(model: PreTrainedModel, devices: Mapping[str, torch.device]) -> None:
    """Let each block, by name, take what it computes with to its device; what the model returns goes to the first."""
    first, skipped = next(iter(devices.values())), model._skip_keys_device_placement
    attach_align_device_hook_on_blocks(
        model, {"": first, **devices}, offload=dict.fromkeys(devices, False), skip_keys=skipped
    )


def cut(model: PreTrainedModel, count: int) -> dict[str, int]:
    """Give each block of a model one of `count` shards, in the order of the forward pass; the largest is least.

    A head tied to the embedding lies where the embedding lies, blocks without parameters in the first shard. Raises
    `ConfigError` for a model without as many layers.
    """
    whole = set(model._no_split_modules or ())
    if not whole:
        raise ConfigError(
            f"{type(model).__name__} does not say which of its modules are layers (_no_split_modules of transformers), "
            "so it cannot be cut over devices: set [objective] devices = 1"
        )
    blocks = _blocks(model, whole)
    layers = sum(type(block).__name__ in whole for block in blocks.values())
    if layers < count:
        raise ConfigError(
            f"[objective] devices = {count}: {type(model).__name__} has {layers} layers here, and each device takes "
            "one at least; lower it"
        )
    owners: dict[torch.Tensor, str] = {}
    shared: dict[str, str] = {}  # a block -> the first block with one of its tensors
    for name, block in blocks.items():
        for tensor in block.parameters():
            if owners.setdefault(tensor, name) != name:
                shared[name] = owners[tensor]
    sizes = {name: sum(tensor.numel() for tensor in block.parameters()) for name, block in blocks.items()}
    cuttable = {name: size for name, size in sizes.items() if size and name not in shared}
    numbers = dict(zip(cuttable, _evenly(list(cuttable.values()), count), strict=True))
    return {name: numbers.get(shared.get(name, name), 0) for name in blocks}


def _blocks(model: PreTrainedModel, whole: set[str]) -> dict[str, torch.nn.Module]:
    """List the modules that stay whole, by name: the classes `whole`, and what has tensors of its own or no parts."""
    found: dict[str, torch.nn.Module] = {}

    def walk(name: str, module: torch.nn.Module) -> None:
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        children = dict(module.named_children())
        if own or not children or type(module).__name__ in whole:
            found[name] = module
            return
        for child, part in children.items():
            walk(f"{name}.{child}".lstrip("."), part)

    walk("", model)
    return found


def _evenly(sizes: Sequence[int], count: int) -> list[int]:
    """Cut a row of sizes into at most `count` runs of the least largest sum; return each size's run."""

    def runs_within(most: int) -> list[int]:
        runs, run, used = [], 0, 0
        for size in sizes:
            if used + size > most:
                run, used = run + 1, 0
            used += size
            runs.append(run)
        return runs

    least = bisect_left(range(sum(sizes)), -count, lo=max(sizes), key=lambda most: -1 - runs_within(most)[-1])
    return runs_within(least)


def form_of(shards: Sequence[Shard], holding: Holding, count: int, dtype: torch.dtype) -> ShardedForm:
    """Make the form in which a holding keeps `count` members; task vectors start at the resident model."""
    stored = _DTYPES.get(holding.stored, dtype)

    def of(shard: Shard) -> Form:
        if not holding.starts_at_seed:
            return WholeForm(count, shard.layout.size, stored, dtype)
        if holding.keep_share < 1:
            return PrunedForm(count, shard.layout, shard.flat.clone(), holding.keep_share, stored)
        return StepsForm(count, shard.layout, shard.flat.clone())

    return ShardedForm(tuple(map(of, shards)), tuple(shard.device for shard in shards))


@dataclass(frozen=True)
class ShardedForm:
    """The forms of all shards as one form: an array of the second shard is `1-NAME`, and so on."""

    forms: tuple[Form, ...]
    devices: tuple[torch.device, ...]

    @property
    def digest_parts(self) -> Mapping[str, object]:
        return self.forms[0].digest_parts

    def shapes(self) -> dict[str, Shape]:
        """Return the shapes of the arrays of all shards."""
        return {
            self._named(number, name): shape
            for number, form in enumerate(self.forms)
            for name, shape in form.shapes().items()
        }

    def places(self) -> dict[str, torch.device]:
        """Return the device of each array."""
        return {
            self._named(number, name): device
            for number, (form, device) in enumerate(zip(self.forms, self.devices, strict=True))
            for name in form.shapes()
        }

    def nbytes(self) -> list[int]:
        """Return the bytes of each shard's arrays."""
        return [sum(shape.nbytes for shape in form.shapes().values()) for form in self.forms]

    def encode(self, members: Iterable[Sequence[torch.Tensor]]) -> Rows:
        """Yield the rows of all arrays, from members in shards (P,) that are valid one at a time."""
        for number, form in enumerate(self.forms):
            yield from self._renamed(number, form.begin())
        for member in members:
            for number, (form, values) in enumerate(zip(self.forms, member, strict=True)):
                yield from self._renamed(number, form.rows_of(values))

    def held(self, arrays: Mapping[str, StoredArray]) -> tuple[HeldMembers, ...]:
        """Make each shard's members of the arrays."""
        return tuple(
            form.held({name: arrays[self._named(number, name)] for name in form.shapes()})
            for number, form in enumerate(self.forms)
        )

    def _renamed(self, number: int, rows: Rows) -> Iterator[tuple[str, torch.Tensor]]:
        return ((self._named(number, name), row) for name, row in rows)

    def _named(self, number: int, name: str) -> str:
        return f"{number}-{name}" if number else name
