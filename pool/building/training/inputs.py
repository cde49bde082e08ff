"""The inputs of a run beside its recipe: windows of training text in order, held-out text, and parts of the seed.

Only the places of windows are in memory, so a run may be longer than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from pool.config.recipe import Recipe
from pool.engines.resources import give_back_memory, is_out_of_memory
from pool.errors import ConfigError
from pool.mixture import Mixture, apportion
from pool.tokens.held_out import IGNORED, HeldOutWindows, Tokens
from pool.tokens.prepared import CorpusManifest, load_search_windows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """The N windows of one run, each of `context` tokens (T).

    stream: number of each window's stream (N,).
    first: first token of each window in its stream (N,).
    """

    streams: tuple[Tokens, ...]
    stream: npt.NDArray[np.int32]
    first: npt.NDArray[np.int64]
    context: int

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        start = int(self.first[number])
        window: npt.NDArray[np.int64] = self.streams[self.stream[number]][start : start + self.context].astype(np.int64)
        return window

    @property
    def tokens(self) -> int:
        return len(self) * self.context


def training_windows(train: Mapping[str, Tokens], mixture: Mixture, recipe: Recipe, context: int) -> TrainingWindows:
    """Draw the windows of one run; `train` needs the partitions of positive weight only.

    Each partition gives its share of N windows, by largest remainder, in a shuffled order of its own, whatever else is
    in the mixture. A used-up partition starts again in another order, with `window_offset` also some tokens later. The
    windows of all partitions are then shuffled together.
    """
    rng = np.random.default_rng([recipe.order_seed, 0])
    names = mixture.support
    counts = apportion(np.array([mixture.as_dict()[name] for name in names]), recipe.windows(context))
    streams = tuple(train[name] for name in names)
    firsts = [
        _draw(len(stream), int(count), context, [recipe.order_seed, 1, *name.encode()], shifts=recipe.window_offset)
        for name, stream, count in zip(names, streams, counts, strict=True)
    ]
    order = rng.permutation(int(counts.sum()))
    stream = np.repeat(np.arange(len(streams), dtype=np.int32), counts)
    return TrainingWindows(streams, stream[order], np.concatenate(firsts)[order], context)


def _draw(tokens: int, count: int, context: int, entropy: list[int], *, shifts: bool) -> npt.NDArray[np.int64]:
    assert tokens >= context, "a partition of less than a window is refused when the corpus is made"
    rng, shift_rng = np.random.default_rng(entropy), np.random.default_rng([*entropy, 0])
    firsts, drawn = [np.empty(0, dtype=np.int64)], 0
    while drawn < count:
        is_repeat = drawn > 0
        # at most the stream's spare tokens, where the stream holds a single window
        shift = int(shift_rng.integers(min(context, tokens - context + 1))) if shifts and is_repeat else 0
        firsts.append(shift + context * rng.permutation((tokens - shift) // context))
        drawn += len(firsts[-1])
    return np.concatenate(firsts)[:count]


_TOKENS_AT_ONCE, _BY_HEAD_AT_ONCE = 2048, 8192
"""Tokens of a forward pass with all their logits in memory, and with those of a few hundred positions at a time."""


@dataclass(frozen=True)
class HeldOutText:
    """Held-out windows and weight of each domain; weights sum to 1."""

    windows: Mapping[str, HeldOutWindows]
    weights: Mapping[str, float]

    def at_most(self, count: int) -> Self:
        """Keep about `count` windows, equally many of each domain, evenly spread; at least one of each."""
        each, few = max(1, count // len(self.windows)), {}
        for name, all_of_it in self.windows.items():
            rows = np.unique(np.linspace(0, len(all_of_it.inputs) - 1, each).round().astype(np.int64))
            arrays = {key: getattr(all_of_it, key)[rows] for key in ("inputs", "targets", "document", "window_bytes")}
            few[name] = replace(all_of_it, **arrays)
        return replace(self, windows=few)

    def loss_nats(self, model: PreTrainedModel) -> float:
        """Return the weighted mean over domains of nats per token; sums in float64."""
        was_training = model.training
        model.train(False)
        losses = [self.weights[name] * _mean_nats(model, windows) for name, windows in self.windows.items()]
        model.train(was_training)
        return float(sum(losses))

    def loss_nats_by_gpu(self, model: PreTrainedModel) -> float:
        """Return the same of a model on the CPU, by a GPU where there is one with room; the model comes back."""
        import torch

        if not torch.cuda.is_available():
            return self.loss_nats(model)
        try:
            torch.nn.Module.to(model, "cuda")
            return self.loss_nats(model)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        finally:
            torch.nn.Module.to(model, "cpu")
            give_back_memory()
        return self.loss_nats(model)


def own_domains(mixture: Mixture, corpus: CorpusManifest) -> dict[str, float]:
    """Weigh the held-out domains of a mixture's partitions. Raises `ConfigError` for a partition without any."""
    weights: dict[str, float] = {}
    for name in mixture.support:
        domain = own_domain(name, corpus)
        if domain is None:
            raise ConfigError(f"nothing of partition {name!r} is held out: set [corpus] held_out_share above 0")
        weights[domain] = weights.get(domain, 0.0) + mixture.as_dict()[name]
    return weights


def own_domain(partition: str, corpus: CorpusManifest) -> str | None:
    """Name the held-out domain of a partition; base units share their partition's. None without held-out text."""
    is_unit = partition not in corpus.search and bool(corpus.groups)
    domain = partition.rpartition("-")[0] if is_unit else partition
    return domain if domain in corpus.search and corpus.search[domain].tokens else None


def held_out_text(corpus: Path, manifest: CorpusManifest, mixture: Mixture) -> HeldOutText:
    """Read the search split of a mixture's own domains. Raises `ConfigError` and `PoolError`."""
    weights = own_domains(mixture, manifest)
    return HeldOutText({name: load_search_windows(corpus, name, manifest) for name in weights}, weights)


def _mean_nats(model: PreTrainedModel, windows: HeldOutWindows) -> float:
    """Add nats on the model's device, so that a GPU is waited for once."""
    import torch  # not to open a pool

    from pool.checkpoints.forward import without_masks

    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.no_grad(), without_masks(model, device.type == "cuda"):
        by_head = device.type == "cuda" and _has_plain_head(model, windows)
        at_once = max(1, (_BY_HEAD_AT_ONCE if by_head else _TOKENS_AT_ONCE) // windows.inputs.shape[1])
        for start in range(0, len(windows.inputs), at_once):
            rows = slice(start, start + at_once)
            nats = _nats_by_head if by_head else _nats_of_logits
            total += nats(model, windows.inputs[rows], windows.targets[rows]).double().sum()
    return float(total) / windows.tokens


def _has_plain_head(model: PreTrainedModel, windows: HeldOutWindows) -> bool:
    """Tell whether a whole model on one device has logits that are its head's output."""
    import torch
    from transformers import PreTrainedModel

    from pool.checkpoints.forward import head_is_plain
    from pool.engines.group import is_grouped

    if not isinstance(model, PreTrainedModel) or is_grouped() or hasattr(model, "hf_device_map"):
        return False
    return head_is_plain(model, torch.from_numpy(windows.inputs[:1].astype(np.int64)).to(model.device))


def _nats_by_head(model: PreTrainedModel, inputs: Tokens, targets: Tokens) -> torch.Tensor:
    """Return the nats (N,) of N targets without the logits of a whole batch."""
    import torch

    from pool.checkpoints.forward import target_nats

    scored = targets != IGNORED
    parts = (inputs, np.flatnonzero(scored), targets[scored])
    return target_nats(model, *(torch.from_numpy(part.astype(np.int64)).to(model.device) for part in parts))


def _nats_of_logits(model: PreTrainedModel, inputs: Tokens, targets: Tokens) -> torch.Tensor:
    """Return the nats (B * T,) of all places; zero without a target."""
    import torch

    device = next(model.parameters()).device
    read, wanted = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (inputs, targets))
    logits = model(input_ids=read, use_cache=False).logits.float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, wanted.flatten(), ignore_index=IGNORED, reduction="none")


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model whose next-token probabilities a student learns (Hinton et al. 2015, arXiv 1503.02531).

    temperature: T, divides the logits of both.
    hard_share: h, the share of the usual loss.
    """

    model: PreTrainedModel
    temperature: float
    hard_share: float

    def mixed(
        self, hard: torch.Tensor, logits: torch.Tensor, inputs: torch.Tensor, tokens: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Return h * hard + (1 - h) T^2 KL(teacher || student), both distributions at T, as a mean over tokens.

        hard: the usual loss, the mean over `tokens` (None: over those of `inputs`); logits (B, T, V) are the
        student's for `inputs` (B, T). The factor T^2 keeps both gradients of one size.
        """
        import torch
        from torch.nn.functional import kl_div, log_softmax

        torch.nn.Module.to(self.model, inputs.device)
        with torch.no_grad():
            taught = self.model(input_ids=inputs, use_cache=False).logits
        student, teacher = (
            log_softmax(one[:, :-1].float().flatten(0, 1) / self.temperature, dim=-1) for one in (logits, taught)
        )
        nats = kl_div(student, teacher, reduction="sum", log_target=True) / (len(student) if tokens is None else tokens)
        return self.hard_share * hard + (1 - self.hard_share) * self.temperature**2 * nats


@dataclass(frozen=True, eq=False)
class RunInputs:
    """Inputs for a recipe's options; None for an option that is off.

    replayed: the seed's mixture, blended into the run's own.
    stopping: text for early stopping.
    optimizer: file of the seed's AdamW state.
    importance: F of the penalty, by parameter.
    seed_text: text for measuring how much was forgotten.
    keeps_optimizer: whether AdamW's state is kept; for the seed of members that continue with it.
    saves: whether there are checkpoints to go on from; a timed run has none.
    start: makes the run's model again, should memory run out; None keeps a copy of its values.
    teacher: whose probabilities are learnt beside the text.
    """

    replayed: Mixture | None = None
    stopping: HeldOutText | None = None
    optimizer: Path | None = None
    importance: Mapping[str, torch.Tensor] | None = None
    seed_text: HeldOutText | None = None
    keeps_optimizer: bool = False
    saves: bool = True
    start: Callable[[], PreTrainedModel] | None = None
    teacher: Teacher | None = None


NOTHING = RunInputs()
