"""The merge: any weights of all members, summed into one resident model.

theta(w) = sum_k w_k theta_k (Wortsman et al. 2022, arXiv 2203.05482; Na et al. 2024, arXiv 2410.15661). The resident
model's parameters are views of one flat buffer a device, and a merge writes the buffers in place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from objectives.held_out import Floats
from objectives.merging.by_rows import ModelRows
from objectives.merging.members.arrays import CPU, Rows, filled, mapped, packed_name, shared, to_read
from objectives.merging.members.form import HeldMembers, inner, sum_many
from objectives.merging.members.holding import Choice, Holding, choose_for_all, held_line, in_turn
from objectives.merging.members.whole import WholeMembers
from objectives.merging.shards import ShardedForm, devices_of, form_of, sharded
from pool.checkpoints.checkpoint import check_finite, load_model, parameters_of, remedy_of
from pool.checkpoints.likeness import check_same_tensors
from pool.engines.devices import SharedPages
from pool.engines.resources import give_back_memory
from pool.errors import ConfigError, NotRememberedError
from pool.progress import say

AS_TRAINED = Holding()
Found = TypeVar("Found")


class StackedPool:
    """K members of P parameters, and one resident model for their merges.

    A name with several checkpoints stands for their mean. Tied parameters count once. `dtype` is that of merging:
    float32, or float64 to check gradients. `folder` is the pool's, with the seed and the packed members. Members load
    `at_once`, or when a merge first needs them: trained models are scored without them. `shards` hold the parts of a
    model that the holding cuts over several devices; nearly always there is one.

    Raises `PoolError` for members of different tensors or with NaN, `ConfigError` for a model that cannot be cut, and
    `ValueError` for a holding that needs `folder`.
    """

    def __init__(
        self,
        folders: Mapping[str, Path | Sequence[Path]],
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        holding: Holding = AS_TRAINED,
        folder: Path | None = None,
        at_once: bool = True,
    ) -> None:
        devices = devices_of(holding.devices, device)
        self.names, self.dtype, self.holding = tuple(folders), dtype, holding
        self._paths = {name: (given,) if isinstance(given, Path) else tuple(given) for name, given in folders.items()}
        named, several = next(iter(self._paths.items()))
        self.model = load_model(several[0], dtype=dtype)
        check_finite(self.model, f"member {named!r}", remedy_of(several[0]))
        self.shards = sharded(self.model, devices, dtype)  # frees what was loaded: one model beside the pool, not two
        self._folder = folder
        self._chosen: Choice | None = None
        self._members: tuple[HeldMembers, ...] | None = None
        self._is_released = True
        if at_once:
            _ = self._held_members

    @classmethod
    def of_seed(cls, names: Sequence[str], seed: Path, *, holding: Holding = AS_TRAINED) -> StackedPool:
        """Make a pool of the seed alone, for readers of remembered values; digests stay. Raises `PoolError`."""
        pool = cls({"the seed": seed}, holding=Holding(devices=holding.devices))
        pool.names, pool.holding, pool._members = tuple(names), holding, None
        return pool

    @property
    def device(self) -> torch.device:
        """The device that reads text: the first."""
        return self.shards[0].device

    @property
    def flat(self) -> torch.Tensor:
        """The buffer (P,) behind the resident model. Raises `ConfigError` for a model on several devices."""
        return _only(self.flats)

    @property
    def flats(self) -> tuple[torch.Tensor, ...]:
        """The buffers behind the resident model, one a shard."""
        return tuple(shard.flat for shard in self.shards)

    @property
    def members(self) -> HeldMembers:
        """The members of a model on one device. Raises `NotRememberedError` for a pool without them."""
        return _only(self._held_members)

    @property
    def _held_members(self) -> tuple[HeldMembers, ...]:
        """The members of each shard, loaded again after `release`; their merges have buffers again too."""
        before = [flat.clone() for flat in self.flats] if self._is_released else []
        for shard in self.shards:
            shard.give_values()
        if self._is_released:
            self._chosen, self._members = self._held_in_turn()  # by the resident model's buffers
            self._is_released = False
            if before[0].numel():
                self.take(*before)
        if self._members is None:
            raise NotRememberedError("this would take a merge, and only what is remembered may be read")
        return self._members

    @property
    def choice(self) -> Choice:
        """The place of the members and the reason; loads them."""
        _ = self._held_members
        assert self._chosen is not None, "members were loaded"
        return self._chosen

    @property
    def digest_parts(self) -> dict[str, object]:
        """The part of the holding that decides a value, in JSON types."""
        return self.holding.digest_parts

    @property
    def stack(self) -> torch.Tensor:
        """The members (K, P) as they lie on the device. Raises `ConfigError` for any other holding."""
        stack = self.members.stack if isinstance(self.members, WholeMembers) else None
        if stack is None:
            raise ConfigError(
                'this needs members as they are in memory: set [objective] held = "resident", and no other'
            )
        return stack

    def merge(self, weights: Floats) -> None:
        """Make the resident model the sum of the members by `weights` (K,), as in `names`; zeros cost nothing.

        Weights (K, R) differ from row to row, of a model on one device.
        """
        if weights.ndim == 2:
            self.by_rows.sum(self.members, weights, self.flat)
            return
        for members, flat in zip(self._held_members, self.flats, strict=True):
            members.sum(weights, flat)

    def merge_many(self, weights: Floats) -> torch.Tensor:
        """Return N merges (N, P) for weights (N, K), or (N, K, R) by rows; in the first case members are read once."""
        if weights.ndim == 2:
            return sum_many(self.members, weights, self.flat)
        return self.by_rows.sum_many(self.members, weights, self.flat)

    def merge_each(self, weights: Floats) -> Iterator[None]:
        """Make the resident model the same merges one after the other, on any number of devices."""
        if weights.ndim == 3:
            yield from map(self.merge, weights)
            return
        both = zip(self._held_members, self.flats, strict=True)
        merged = [sum_many(members, weights, flat) for members, flat in both]
        for row in range(len(weights)):
            self.take(*(rows[row] for rows in merged))
            yield

    def take(self, *merged: torch.Tensor) -> None:
        """Make the resident model one merge: a tensor (P,) for each shard."""
        for flat, values in zip(self.flats, merged, strict=True):
            flat.copy_(values)

    def synchronize(self) -> None:
        """Wait for the devices."""
        for device in self._devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    def release(self, *, resident: bool = False) -> None:
        """Free the devices of members and gradient until a merge needs them.

        Members that lie elsewhere for the most part stay. The resident model stays unless `resident` is set; freed, the
        model has no values until the next `merge` or `load`.
        """
        if self._members is not None and sum(2 * one.device_nbytes - one.nbytes for one in self._members) >= 0:
            self._members, self._is_released = None, True
        for shard in self.shards:
            shard.free(values=resident)
        give_back_memory()

    def forget_gradient(self) -> None:
        """Free the gradient's buffers; the next gradient makes others."""
        for shard in self.shards:
            shard.free(values=False)

    def load(self, folder: Path, what: str) -> None:
        """Make the resident model a checkpoint of the same architecture. Raises `PoolError`."""
        source = load_model(folder, dtype=self.dtype)
        for shard in self.shards:
            shard.give_values()
        check_same_tensors(source, self.model, what)
        check_finite(source, what, remedy_of(folder))
        for shard in self.shards:
            shard.copy(parameters_of(source))

    def weight_gradient(self) -> Floats:
        """Turn the gradient of the parameters (P,) into d L / d w_k = <grad_theta L(theta(w)), theta_k> (K,)."""
        both = zip(self._held_members, self.gradients(), strict=True)
        slopes: Floats = np.sum([inner(members, gradient) for members, gradient in both], axis=0)
        return slopes

    @cached_property
    def by_rows(self) -> ModelRows:
        """The rows of all matrices, for weights that differ between them, of a model on one device."""
        return ModelRows(_only(self.shards).layout, self.device)

    def row_gradient(self) -> Floats:
        """Turn the gradient of the parameters (P,) into its inner products (K, R) with the members, row by row."""
        return self.by_rows.inner(self.members, self.flat_gradient())

    def flat_gradient(self) -> torch.Tensor:
        """Return the buffer (P,) behind the parameters' `.grad` of a model on one device."""
        return _only(self.gradients())

    def gradients(self) -> tuple[torch.Tensor, ...]:
        """Return the buffers behind the parameters' `.grad`, one a shard, made at the first call."""
        return tuple(shard.gradient() for shard in self.shards)

    @property
    def _devices(self) -> list[torch.device]:
        return [shard.device for shard in self.shards]

    def _held_in_turn(self) -> tuple[Choice, tuple[HeldMembers, ...]]:
        """Hold the members; on GPUs after others that begin there, so that their bytes no longer count as free."""
        with in_turn(self._devices):
            choice, members = self._held()
            line = held_line(choice, members, self._devices)
        if line and self._folder is not None:  # else the seed alone, or a pool of a benchmark
            say(line)
        return choice, members

    def _held(self) -> tuple[Choice, tuple[HeldMembers, ...]]:
        form = self._form()
        shapes, devices = form.shapes(), form.places()
        pages = self._pages(form)
        choice = self._choice(form.nbytes(), pages)

        def encoded() -> Rows:
            return form.encode(self._each())

        if choice.place == "mapped":
            there = mapped(shapes, encoded, CPU, self._packed_folder(form))
            return choice, form.held({name: to_read(array, devices[name]) for name, array in there.items()})
        if choice.place == "streamed" and pages is not None:
            return choice, form.held(shared(pages, shapes, encoded, devices))
        return choice, form.held(filled(shapes, encoded(), devices, streamed=choice.place == "streamed"))

    def _pages(self, form: ShardedForm) -> str | None:
        """Name the pages in which processes share streamed members; None where they cannot."""
        if self.device.type != "cuda" or self._folder is None or not hasattr(os, "memfd_create"):
            return None
        return self._packed_folder(form).name

    def _form(self) -> ShardedForm:
        """Make the form of the holding; the seed of task vectors becomes resident."""
        if self.holding.starts_at_seed:
            if self._folder is None:
                raise ValueError("int8 and pruned members are steps from a seed: give the pool's folder, which has one")
            self.load(self._folder / "seed", "the seed")
        return form_of(self.shards, self.holding, len(self.names), self.dtype)

    def _choice(self, pool_bytes: Sequence[int], pages: str | None) -> Choice:
        if self.holding.held != "auto":
            return Choice(self.holding.held, "as asked for")
        paid = sum(pool_bytes) if pages is not None and SharedPages.exist(pages) else 0  # by another process
        choice = choose_for_all(pool_bytes, [flat.nbytes for flat in self.flats], self._devices, paid)
        return choice if self._folder is not None or choice.place != "mapped" else Choice("resident", choice.why)

    def _each(self) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield one member after the other, in the resident model's buffers."""
        for name, several in self._paths.items():
            self.load(several[0], f"member {name!r}")
            if len(several) > 1:
                totals = [flat.clone() for flat in self.flats]
                for folder in several[1:]:
                    self.load(folder, f"a member of {name!r}")
                    for total, flat in zip(totals, self.flats, strict=True):
                        total.add_(flat)
                self.take(*(total.div_(len(several)) for total in totals))
            yield self.flats

    def _packed_folder(self, form: ShardedForm) -> Path:
        if self._folder is None:
            raise ValueError("members are mapped from files beside the pool: give the pool's folder")
        seed = self._folder / "seed" if self.holding.starts_at_seed else None
        places = {name: place for shard in self.shards for name, place in shard.layout.places().items()}
        folder = self._folder / "packed" / packed_name(form.digest_parts, self._paths.values(), seed, places)
        return folder if self.holding.packed is None or folder.exists() else self.holding.packed / folder.name


def _only(shards: Sequence[Found]) -> Found:
    if len(shards) > 1:
        raise ConfigError("this needs whole models on one device: set [objective] devices = 1")
    return shards[0]
