"""The merge: any weights of all members summed into one resident model.

theta(w) = sum_k w_k theta_k (Wortsman et al. 2022, arXiv 2203.05482; Na et al. 2024, arXiv 2410.15661). The
resident model's parameters are views into one flat buffer that a merge writes in place: nothing is copied. How the
members are held, in which form and where, is `objectives.members`' duty.

A pool that nothing is merged from: for whoever reads what is remembered of it, and would wait for K models in vain.

The seed can be made resident and scored, because goals may be relative to it; the members stay on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from objectives.merging.members.arrays import StoredArray, filled
from objectives.merging.members.choice import Choice, choose, form_of, free_memory
from objectives.merging.members.form import Form, HeldMembers, inner, sum_many
from objectives.merging.members.holding import Holding
from objectives.merging.members.layout import FlatLayout
from objectives.merging.members.packed import mapped
from objectives.merging.members.whole import WholeMembers
from pool.checkpoints.checkpoint import CONFIG, WEIGHTS, check_finite, load_model, parameters_of
from pool.checkpoints.likeness import check_same_tensors
from pool.checkpoints.manifest import CheckpointManifest
from pool.errors import ConfigError, NotRememberedError
from pool.files.digests import digest_file, digest_json, short
from pool.files.records import MANIFEST, read_record

AS_TRAINED = Holding()


class StackedPool:
    """K members of P parameters, held as a `Holding` says, and one model that any weighting of them is merged into.

    A name with several checkpoints stands for their mean. Tied parameters count once. Merging is in the pool's dtype
    (float32, or float64 for checking gradients). `folder` is the pool's: the seed that task vectors start at is there,
    and mapped members are packed there.
    Raises `PoolError` when members differ in tensor names, shapes or buffers, or hold NaN, and `ValueError` for a
    holding that needs the pool's folder without it.
    """

    def __init__(
        self,
        folders: Mapping[str, Path | Sequence[Path]],
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        holding: Holding = AS_TRAINED,
        folder: Path | None = None,
    ) -> None:
        self.names = tuple(folders)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype
        self.holding = holding
        self._paths = {name: (given,) if isinstance(given, Path) else tuple(given) for name, given in folders.items()}
        named = next(iter(self._paths))
        first = load_model(self._paths[named][0], dtype=dtype)
        check_finite(first, f"member {named!r}", _REBUILD)
        self._layout = FlatLayout.of(first)
        self.flat = torch.zeros(self._layout.size, dtype=dtype, device=self.device)
        self._gradient: torch.Tensor | None = None
        self.model = self._resident(first)  # frees what was loaded: one model in memory beside the pool, not two
        del first
        self._folder = folder
        self.choice, self.members = self._held()

    @property
    def digest_parts(self) -> dict[str, object]:
        """What of the way members are held decides a value, in JSON types."""
        return self.holding.digest_parts

    @property
    def stack(self) -> torch.Tensor:
        """The members (K, P) as they lie on the device. Raises `ConfigError` where they are held otherwise."""
        stack = self.members.stack if isinstance(self.members, WholeMembers) else None
        if stack is None:
            raise ConfigError(
                'this needs members as they are in memory: set [objective] held = "resident", and no other'
            )
        return stack

    def merge(self, weights: npt.NDArray[np.float64]) -> None:
        """Make the resident model the sum of the members by `weights` (K,), in the order of `names`, in place.

        One pass over the members whose weight is not zero, bound by the bandwidth of where they lie.
        """
        self.members.sum(weights, self.flat)

    def merge_many(self, weights: npt.NDArray[np.float64]) -> torch.Tensor:
        """Return N merges (N, P) for weights (N, K): the pool is read once for all of them."""
        return sum_many(self.members, weights, self.flat)

    def take(self, merged: torch.Tensor) -> None:
        """Make the resident model one of the merges (P,) that `merge_many` returned."""
        self.flat.copy_(merged)

    def synchronize(self) -> None:
        """Wait until the device has done what it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def load(self, folder: Path, what: str) -> None:
        """Make the resident model a checkpoint of the same architecture, in place. Raises `PoolError`."""
        source = load_model(folder, dtype=self.dtype)
        check_same_tensors(source, self.model, what)
        check_finite(source, what, _REBUILD)
        self.flat.zero_()
        for name, tensor in parameters_of(source).items():
            self.flat[self._layout.matrices[name].part] = tensor.reshape(-1).to(self.device)

    def weight_gradient(self) -> npt.NDArray[np.float64]:
        """Turn the parameters' gradient (P,) into that of the merge weights (K,).

        d L / d w_k = <grad_theta L(theta(w)), theta_k>
        """
        return inner(self.members, self.flat_gradient())

    def flat_gradient(self) -> torch.Tensor:
        """Return the buffer (P,) that the parameters' `.grad` are views of; made when it is first asked for."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.flat)
            for name, parameter in self.model.named_parameters():
                parameter.grad = self._gradient[self._layout.matrices[name].part].view(parameter.shape)
        return self._gradient

    def _held(self) -> tuple[Choice, HeldMembers]:
        """Choose a place where none was asked for, and fill it."""
        form = form_of(self.holding, len(self.names), self._layout, self._seed(), self.dtype)
        shapes = form.shapes()
        choice = self._choice(sum(shape.nbytes for shape in shapes.values()))
        if choice.place == "mapped":
            if self._folder is None:
                raise ValueError("members are mapped from files beside the pool: give the pool's folder")
            folder = self._folder / "packed" / short(self._packed_digest(form))
            return choice, form.held(mapped(shapes, lambda: form.encode(self._each()), self.device, folder))
        streamed = choice.place == "streamed"
        arrays: dict[str, StoredArray] = filled(shapes, form.encode(self._each()), self.device, streamed=streamed)
        return choice, form.held(arrays)

    def _choice(self, pool_bytes: int) -> Choice:
        if self.holding.held != "auto":
            return Choice(self.holding.held, "as asked for")
        choice = choose(pool_bytes, self.flat.nbytes, self.device, free_memory(self.device))
        return choice if self._folder is not None or choice.place != "mapped" else Choice("resident", choice.why)

    def _seed(self) -> torch.Tensor | None:
        """Return the seed (P,) that task vectors start at, where there are any."""
        if self._folder is None or not self.holding.starts_at_seed:
            return None
        self.load(self._folder / "seed", "the seed")
        return self.flat.clone()

    def _each(self) -> Iterator[torch.Tensor]:
        """Yield one member (P,) after the other, in the resident model's buffer; means are in the pool's dtype."""
        for name, several in self._paths.items():
            self.load(several[0], f"member {name!r}")
            if len(several) > 1:
                total = self.flat.clone()
                for folder in several[1:]:
                    self.load(folder, f"a member of {name!r}")
                    total.add_(self.flat)
                self.flat.copy_(total.div_(len(several)))
            yield self.flat

    def _packed_digest(self, form: Form) -> str:
        """Digest what packed members are made of and how, so that a file of others is never taken for them."""
        members = [[_content(folder) for folder in several] for several in self._paths.values()]
        assert self._folder is not None
        seed = self._folder / "seed" if self.holding.starts_at_seed else None
        places = {
            name: [matrix.part.start, matrix.rows, matrix.width] for name, matrix in self._layout.matrices.items()
        }
        start = _content(seed) if seed else None
        return digest_json({**form.digest_parts, "members": members, "seed": start, "places": places})

    def _resident(self, model: PreTrainedModel) -> PreTrainedModel:
        torch.nn.Module.to(model, self.device)
        for name, parameter in model.named_parameters():
            parameter.data = self.flat[self._layout.matrices[name].part].view(parameter.shape)
        return model


_REBUILD = "train it again with `mixscout pool build POOL.toml --rebuild NAME`"


def _content(folder: Path) -> list[str]:
    """Give the digests of a checkpoint's weights and config: as its manifest has them, which a pool has verified."""
    if (folder / MANIFEST).is_file():
        manifest = read_record(folder / MANIFEST, CheckpointManifest)
        return [manifest.weights_digest, manifest.config_digest]
    return [digest_file(folder / WEIGHTS), digest_file(folder / CONFIG)]


class UnmergedPool(StackedPool):
    """A stand-in for the stacked members of a pool, under their `names`; only the seed is in memory.

    Digests of objectives are those of the pool itself, held as `holding` says. Raises `PoolError` for a seed
    that cannot be believed.
    """

    def __init__(self, names: Sequence[str], seed: Path, *, holding: Holding = AS_TRAINED) -> None:
        super().__init__({"the seed": seed})
        self.names = tuple(names)
        self.holding = holding

    def merge(self, weights: npt.NDArray[np.float64]) -> NoReturn:
        """Refuse."""
        raise NotRememberedError("this would take a merge, and only what is remembered may be read")

    def merge_many(self, weights: npt.NDArray[np.float64]) -> torch.Tensor:
        """Refuse."""
        self.merge(weights)
