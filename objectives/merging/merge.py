"""The merge: any weights of all members, summed into one resident model.

theta(w) = sum_k w_k theta_k (Wortsman et al. 2022, arXiv 2203.05482; Na et al. 2024, arXiv 2410.15661). The resident
model's parameters are views of one flat buffer, and a merge writes the buffer in place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel

from objectives.held_out import Floats
from objectives.merging.by_rows import ModelRows
from objectives.merging.members.arrays import Rows, filled, mapped, packed_name, shared, to_read
from objectives.merging.members.form import FlatLayout, Form, HeldMembers, inner, sum_many
from objectives.merging.members.holding import Choice, Holding, choose, free_memory
from objectives.merging.members.pruned import PrunedForm
from objectives.merging.members.steps import StepsForm
from objectives.merging.members.whole import WholeForm, WholeMembers
from pool.checkpoints.checkpoint import check_finite, load_model, parameters_of, with_padding_as_text
from pool.checkpoints.likeness import check_same_tensors
from pool.checkpoints.manifest import AGES
from pool.engines.devices import SharedPages, one_at_a_time
from pool.engines.resources import give_back_memory
from pool.errors import ConfigError, NotRememberedError
from pool.progress import say, size

AS_TRAINED = Holding()
_DTYPES = {"bfloat16": torch.bfloat16, "int8": torch.int8}


class StackedPool:
    """K members of P parameters, and one resident model for their merges.

    A name with several checkpoints stands for their mean. Tied parameters count once. `dtype` is that of merging:
    float32, or float64 to check gradients. `folder` is the pool's, with the seed and the packed members. Members load
    `at_once`, or when a merge first needs them: trained models are scored without them.

    Raises `PoolError` for members of different tensors or with NaN, and `ValueError` for a holding that needs `folder`.
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
        self.names = tuple(folders)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype
        self.holding = holding
        self._paths = {name: (given,) if isinstance(given, Path) else tuple(given) for name, given in folders.items()}
        named = next(iter(self._paths))
        first = load_model(self._paths[named][0], dtype=dtype)
        check_finite(first, f"member {named!r}", _remedy(self._paths[named][0]))
        self._layout = FlatLayout.of(first)
        self.flat = torch.zeros(self._layout.size if at_once else 0, dtype=dtype, device=self.device)
        self._shapes = {name: parameter.shape for name, parameter in first.named_parameters()}
        self._gradient: torch.Tensor | None = None
        self.model = self._resident(first)  # frees what was loaded: one model in memory beside the pool, not two
        del first
        self._folder = folder
        self._chosen: Choice | None = None
        self._members: HeldMembers | None = None
        self._is_released = True
        if at_once:
            self._load_members()

    @classmethod
    def of_seed(cls, names: Sequence[str], seed: Path, *, holding: Holding = AS_TRAINED) -> StackedPool:
        """Make a pool of the seed alone, for readers of remembered values; digests stay. Raises `PoolError`."""
        pool = cls({"the seed": seed})
        pool.names, pool.holding, pool._members = tuple(names), holding, None
        return pool

    @property
    def members(self) -> HeldMembers:
        """The members, loaded again after `release`. Raises `NotRememberedError` for a pool without them."""
        if self._is_released:
            before = self.flat.clone()
            self._give_values()
            self._load_members()  # by the resident model's buffer
            if before.numel():
                self.flat.copy_(before)
        if self._members is None:
            raise NotRememberedError("this would take a merge, and only what is remembered may be read")
        return self._members

    @property
    def choice(self) -> Choice:
        """The place of the members and the reason; loads them."""
        _ = self.members
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

        Weights (K, R) differ from row to row.
        """
        if weights.ndim == 1:
            self.members.sum(weights, self.flat)
        else:
            self.by_rows.sum(self.members, weights, self.flat)

    def merge_many(self, weights: Floats) -> torch.Tensor:
        """Return N merges (N, P) for weights (N, K), or (N, K, R) by rows; in the first case members are read once."""
        if weights.ndim == 2:
            return sum_many(self.members, weights, self.flat)
        return self.by_rows.sum_many(self.members, weights, self.flat)

    def take(self, merged: torch.Tensor) -> None:
        """Make the resident model one merge (P,) of `merge_many`."""
        self.flat.copy_(merged)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release(self, *, resident: bool = False) -> None:
        """Free the device of members and gradient until a merge needs them.

        Members that lie elsewhere for the most part stay. The resident model stays unless `resident` is set; freed, the
        model has no values until the next `merge` or `load`.
        """
        if self._members is not None and 2 * self._members.device_nbytes >= self._members.nbytes:
            self._members, self._is_released = None, True
        self.forget_gradient()
        if resident:
            self.flat = self.flat.new_empty(0)
            self._view(self.model)
        give_back_memory()

    def forget_gradient(self) -> None:
        """Free the gradient's buffer; the next gradient makes another."""
        self._gradient = None
        self.model.zero_grad(set_to_none=True)

    def load(self, folder: Path, what: str) -> None:
        """Make the resident model a checkpoint of the same architecture. Raises `PoolError`."""
        source = load_model(folder, dtype=self.dtype)
        self._give_values()
        check_same_tensors(source, self.model, what)
        check_finite(source, what, _remedy(folder))
        self.flat.zero_()
        for name, tensor in parameters_of(source).items():
            self.flat[self._layout.matrices[name].part] = tensor.reshape(-1).to(self.device)

    def weight_gradient(self) -> Floats:
        """Turn the gradient of the parameters (P,) into d L / d w_k = <grad_theta L(theta(w)), theta_k> (K,)."""
        return inner(self.members, self.flat_gradient())

    @cached_property
    def by_rows(self) -> ModelRows:
        """The rows of all matrices, for weights that differ between them."""
        return ModelRows(self._layout, self.device)

    def row_gradient(self) -> Floats:
        """Turn the gradient of the parameters (P,) into its inner products (K, R) with the members, row by row."""
        return self.by_rows.inner(self.members, self.flat_gradient())

    def flat_gradient(self) -> torch.Tensor:
        """Return the buffer (P,) behind the parameters' `.grad`, made at the first call."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.flat)
            for name, parameter in self.model.named_parameters():
                parameter.grad = self._gradient[self._layout.matrices[name].part].view(parameter.shape)
        return self._gradient

    def _load_members(self) -> None:
        self._chosen, self._members = self._held_in_turn()
        self._is_released = False

    def _held_in_turn(self) -> tuple[Choice, HeldMembers]:
        """Hold the members; on a GPU after others that begin there, so that their bytes no longer count as free."""
        if self.device.type != "cuda":
            return self._held()
        gpu = torch.cuda.get_device_properties(self.device)
        with one_at_a_time(f"gpu-{gpu.uuid}"):
            choice, members = self._held()
            free = free_memory(self.device)
        if self._folder is None:  # the seed alone, or a pool of a benchmark
            return choice, members
        say(
            f"members are {choice.place}: {size(members.device_nbytes)} of {gpu.name}, {size(free.device)} left, and "
            f"{size(members.nbytes - members.device_nbytes)} of the host's memory, {size(free.host)} left"
        )
        return choice, members

    def _held(self) -> tuple[Choice, HeldMembers]:
        form = self._form()
        shapes = form.shapes()
        pages = self._pages(form)
        choice = self._choice(sum(shape.nbytes for shape in shapes.values()), pages)
        streamed = choice.place == "streamed"

        def encoded() -> Rows:
            return form.encode(self._each())

        if choice.place == "mapped":
            there = mapped(shapes, encoded, torch.device("cpu"), self._packed_folder(form))
            return choice, form.held({name: to_read(array, self.device) for name, array in there.items()})
        if streamed and pages is not None:
            return choice, form.held(shared(pages, shapes, encoded, self.device))
        return choice, form.held(filled(shapes, encoded(), self.device, streamed=streamed))

    def _pages(self, form: Form) -> str | None:
        """Name the pages in which processes share streamed members; None where they cannot."""
        if self.device.type != "cuda" or self._folder is None or not hasattr(os, "memfd_create"):
            return None
        return self._packed_folder(form).name

    def _form(self) -> Form:
        """Make the form of the holding; the seed of task vectors becomes resident."""
        count, stored = len(self.names), _DTYPES.get(self.holding.stored, self.dtype)
        if not self.holding.starts_at_seed:
            return WholeForm(count, self._layout.size, stored, self.dtype)
        if self._folder is None:
            raise ValueError("int8 and pruned members are steps from a seed: give the pool's folder, which has one")
        self.load(self._folder / "seed", "the seed")
        seed = self.flat.clone()
        if self.holding.keep_share < 1:
            return PrunedForm(count, self._layout, seed, self.holding.keep_share, stored)
        return StepsForm(count, self._layout, seed)

    def _choice(self, pool_bytes: int, pages: str | None) -> Choice:
        if self.holding.held != "auto":
            return Choice(self.holding.held, "as asked for")
        free = free_memory(self.device)
        if pages is not None and SharedPages.exist(pages):
            free = replace(free, host=free.host + pool_bytes)  # another process has paid for them
        choice = choose(pool_bytes, self.flat.nbytes, self.device, free)
        return choice if self._folder is not None or choice.place != "mapped" else Choice("resident", choice.why)

    def _each(self) -> Iterator[torch.Tensor]:
        """Yield one member (P,) after the other, in the resident model's buffer."""
        for name, several in self._paths.items():
            self.load(several[0], f"member {name!r}")
            if len(several) > 1:
                total = self.flat.clone()
                for folder in several[1:]:
                    self.load(folder, f"a member of {name!r}")
                    total.add_(self.flat)
                self.flat.copy_(total.div_(len(several)))
            yield self.flat

    def _packed_folder(self, form: Form) -> Path:
        if self._folder is None:
            raise ValueError("members are mapped from files beside the pool: give the pool's folder")
        seed = self._folder / "seed" if self.holding.starts_at_seed else None
        places = {
            name: [matrix.part.start, matrix.rows, matrix.width] for name, matrix in self._layout.matrices.items()
        }
        folder = self._folder / "packed" / packed_name(form.digest_parts, self._paths.values(), seed, places)
        return folder if self.holding.packed is None or folder.exists() else self.holding.packed / folder.name

    def _resident(self, model: PreTrainedModel) -> PreTrainedModel:
        torch.nn.Module.to(with_padding_as_text(model), self.device)
        self._view(model)
        return model

    def _view(self, model: PreTrainedModel) -> None:
        """Make a model's parameters views of the flat buffer, or empty where the buffer is."""
        for name, parameter in model.named_parameters():
            part = self.flat[self._layout.matrices[name].part]
            parameter.data = part.view(self._shapes[name]) if self.flat.numel() else self.flat

    def _give_values(self) -> None:
        """Give the resident model a buffer again after `release` freed it."""
        if not self.flat.numel():
            self.flat = torch.zeros(self._layout.size, dtype=self.dtype, device=self.device)
            self._view(self.model)


def _remedy(folder: Path) -> str:
    """Word the remedy for a checkpoint that is not finite: a member, one of its ages, or the seed."""
    name = folder.parents[1].name if folder.parent.name == AGES else folder.name
    return f"train it again with `mixscout pool build POOL.toml --rebuild {name}`"
