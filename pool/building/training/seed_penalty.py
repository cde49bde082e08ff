"""The pull back to the seed: strength / 2 * sum over parameters of F * (parameter - seed)^2.

F is 1 for `l2`, and the diagonal Fisher information for `ewc` (Kirkpatrick et al. 2017, PNAS 114, equation 3). Labels
are the text's own tokens: F = mean over windows of (gradient of the window's summed nats)^2 / T. For independent tokens
F is that of one token, and F / 2 * (a step)^2 estimates nats per token.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from pool.building.training.inputs import TrainingWindows, training_windows
from pool.building.training.placement import sharded_like
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.checkpoints.manifest import CheckpointManifest
from pool.config.recipe import Recipe
from pool.errors import PoolError
from pool.files.digests import digest_file, digest_json
from pool.files.records import Record, read_record, write_record
from pool.mixture import Mixture
from pool.tokens.held_out import Tokens


class FisherRecord(Record):
    of: str
    digest: str


def fisher_of(
    folder: Path, seed: CheckpointManifest, streams: Mapping[str, Tokens], digests: Mapping[str, str], count: int
) -> dict[str, torch.Tensor]:
    """Read F of the seed in `folder`, a tensor in the shape of each parameter; measure F first if no file holds it."""
    of = digest_json([seed.weights_digest, seed.mixture, dict(digests), count])
    path, record = folder / f"fisher-{of[:12]}.safetensors", folder / f"fisher-{of[:12]}.json"
    with FileLock(folder.with_name(".fisher.lock")):
        if not _is_kept(path, record, of):
            model = load_model(folder)
            torch.nn.Module.to(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            context = int(model.config.max_position_embeddings)
            recipe = Recipe(tokens=count * context, batch_windows=1)
            windows = training_windows(streams, Mixture.of(seed.mixture), recipe, context)
            temporary = path.with_name(f".{path.name}.tmp")
            save_file(measured_fisher(model, windows), temporary)
            temporary.replace(path)
            write_record(record, FisherRecord(of=of, digest=digest_file(path)))
        return load_file(path)


def _is_kept(path: Path, record: Path, of: str) -> bool:
    try:
        return read_record(record, FisherRecord) == FisherRecord(of=of, digest=digest_file(path))
    except (OSError, PoolError):  # missing, or damaged: measured again
        return False


def measured_fisher(model: PreTrainedModel, windows: TrainingWindows) -> dict[str, torch.Tensor]:
    """Measure F on each of N windows, where the model lies; sums in float64."""
    device = model.device
    sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in parameters_of(model).items()}
    for number in range(len(windows)):
        window = torch.from_numpy(windows[number]).unsqueeze(0).to(device)
        logits = model(input_ids=window, use_cache=False).logits.float()
        nats = torch.nn.functional.cross_entropy(logits[0, :-1], window[0, 1:], reduction="sum")
        model.zero_grad(set_to_none=True)
        nats.backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.double().square()
    scale = 1 / (len(windows) * (windows.context - 1))
    return {name: (total * scale).float().cpu().contiguous() for name, total in sums.items()}


class Penalty:
    """The penalty of one run; `importance` is F, None for `l2`. The parameters of `start` are copied."""

    def __init__(
        self, start: Mapping[str, torch.Tensor], strength: float, importance: Mapping[str, torch.Tensor] | None
    ) -> None:
        self._start = {name: tensor.detach().clone() for name, tensor in start.items()}
        self._importance = dict(importance) if importance is not None else None
        self._strength = strength

    @torch.no_grad()
    def add_gradient(self, model: torch.nn.Module) -> None:
        for name, parameter in model.named_parameters():
            self._follow(name, parameter)
            pull = self._strength * (parameter - self._start[name])
            if self._importance is not None:
                pull *= self._importance[name]
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

    def _follow(self, name: str, parameter: torch.Tensor) -> None:
        """Move seed and F to the parameter's device, and into its shards, once."""
        if self._start[name].device != parameter.device or type(self._start[name]) is not type(parameter.data):
            self._start[name] = sharded_like(parameter, self._start[name])
            if self._importance is not None:
                self._importance[name] = sharded_like(parameter, self._importance[name])
