"""Scoring: the nats of held-out windows under the resident model's present parameters.

Right padding never reaches a real token (attention is causal). The logits of a whole batch never exist: the head is
applied to a few hundred scored positions at a time. Log-sum-exps are float32 (or float64), window sums float64.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from objectives.held_out import Floats, Precision
from objectives.scoring.window_table import Rows, WindowTable
from pool.checkpoints.forward import (
    head_is_plain,
    position_nats,
    recomputing,
    rounding,
    target_nats,
    whole_target_nats,
    without_masks,
)
from pool.checkpoints.weights import most_positions
from pool.engines.resources import give_back_memory, is_out_of_memory
from pool.progress import say
from pool.tokens.held_out import IGNORED

TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 32768}
"""Most tokens of one forward pass."""
HIDDEN_VALUES_AT_ONCE = {"cpu": 2**21, "cuda": 2**26}
"""Most tokens times hidden units of one forward pass: fewer tokens fill a wide model."""
GRADIENT_SHARE = 2
"""A forward and backward pass takes fewer tokens by this factor."""
ACTIVATION_VALUES = 2**27
"""Activation values of one pass on a CPU; above them the backward pass computes layers again."""
LARGE_TOKENS = 1024
"""A model is large on a CPU if the activations of so many tokens are above that. Smaller ones keep their batches, and
so the last digits of earlier values."""
LIKE_LENGTHS = 0.875
"""Windows in one batch of a large model have at least this share of the longest one's tokens: the rest is padding."""
ACTIVATION_SHARE = 0.5
"""The same as a share of a GPU's free memory: as much again is for logits and temporary values."""
VALUES_PER_HIDDEN = 24
"""Values of a decoder layer for its backward pass, per token and hidden unit: measured 20 to 25 for Llama."""
Buffers = torch.Tensor | Sequence[torch.Tensor]
Found = TypeVar("Found")


@dataclass(frozen=True)
class _Batch:
    """Windows (B, T) of similar length, and their rows in the table.

    Of the N scored tokens: positions (N,) in the flattened windows, targets (N,), and owner (N,), the window.
    """

    rows: Rows
    inputs: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    owner: torch.Tensor


class Scorer:
    """Scores a resident model on the windows of a table, one segment after the other.

    precision: `bfloat16` computes in mixed precision (torch autocast), with unchanged parameters; `tf32` rounds the
    factors of products on a GPU, and is float32 on a CPU
    compiled: compile the forward pass of evaluations without gradient, on a GPU with the log-probabilities

    After memory ran out, fewer tokens are scored at a time; losses then differ in the last digits. Raises `ValueError`
    for a window longer than the model's context.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        table: WindowTable,
        *,
        segments: Sequence[Rows] | None = None,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        context = most_positions(model.config)
        if context is not None and int(table.lengths.max()) > context:
            raise ValueError(f"windows of {table.lengths.max()} tokens are longer than the model's context {context}")
        self.table = table
        self._model = model
        self._precision = precision
        self._whole_logits: bool | None = None
        self._body = torch.compile(model.base_model, dynamic=True) if compiled else None
        on_gpu = model.device.type == "cuda"
        self._nats = torch.compile(position_nats, dynamic=True) if compiled and on_gpu else None
        self._rows = [np.arange(len(table.domain))] if segments is None else list(segments)
        self._most_tokens = self._tokens_at_once()
        self._segments = self._planned(self._rows)
        self._by_domain: list[list[_Batch]] = []
        self._recomputes = False

    @property
    def tokens(self) -> int:
        """Tokens predicted by one full evaluation."""
        return int(self.table.tokens.sum())

    def score(self) -> Floats:
        """Return the nats of every window (W,)."""
        nats = np.empty(len(self.table.domain))
        for rows, part in self.score_by_segment():
            nats[rows] = part
        return nats

    def forward_only(self) -> None:
        """Run the forward passes and log-probabilities of `score` alone."""
        for number in range(len(self._rows)):
            self._while_memory_lasts(partial(self._segment_nats, number))
        if self._model.device.type == "cuda":
            torch.cuda.synchronize()

    def score_by_segment(self) -> Iterator[tuple[Rows, Floats]]:
        """Yield the rows (n,) and nats (n,) of each segment, computed when the caller asks."""
        for number, rows in enumerate(self._rows):
            nats = np.empty(len(self.table.domain))
            read, found = self._while_memory_lasts(partial(self._segment_nats, number))
            nats[read] = found
            yield rows, nats[rows]

    def score_with_jacobian(self, gradient: Buffers, pull: Callable[[], Floats]) -> tuple[Floats, Floats]:
        """Return the nats of every window (W,) and d nats / d weight of every domain (E, K), in one pass.

        `gradient` (P,) is the buffer behind the parameters' `.grad`, or one a shard; `pull` turns it into (K,).
        """
        buffers = (gradient,) if isinstance(gradient, torch.Tensor) else gradient
        nats = np.empty(len(self.table.domain))
        partials = []
        if not self._by_domain:
            self._by_domain = self._planned_for_gradients()
        for number in range(len(self._by_domain)):
            read, found = self._while_memory_lasts(partial(self._domain_nats, number, buffers), backward=True)
            nats[read] = found
            partials.append(pull())
        return nats, np.stack(partials)

    def _segment_nats(self, number: int) -> tuple[Rows, Floats]:
        batches = self._segments[number]
        with torch.no_grad(), self._as_asked(), self._autocast():
            parts = [self._window_nats(batch) for batch in batches]
        return _read(batches), torch.cat(parts).cpu().numpy()

    def _domain_nats(self, number: int, gradient: Sequence[torch.Tensor]) -> tuple[Rows, Floats]:
        batches = self._by_domain[number]
        for buffer in gradient:
            buffer.zero_()
        again = self._recomputes or self._activations() > _room([buffer.device for buffer in gradient])
        with recomputing(self._model, again), self._as_asked():
            parts = [self._backward(batch) for batch in batches]
        return _read(batches), torch.cat(parts).cpu().numpy()

    def _while_memory_lasts(self, work: Callable[[], Found], *, backward: bool = False) -> Found:
        """Do a work; where memory runs out, again with less of it. Raises the error of a single window."""
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not self._spare(backward):
                    raise
            give_back_memory()

    def _spare(self, backward: bool) -> bool:
        """Recompute activations, or halve the tokens at a time, from now on; False for single windows."""
        batches = [batch for plan in (*self._segments, *self._by_domain) for batch in plan]
        if backward and not self._recomputes:
            self._recomputes = True
            return True
        if max(len(batch.rows) for batch in batches) == 1:
            return False
        self._most_tokens = min(self._most_tokens, max(batch.inputs.numel() for batch in batches)) // 2
        self._segments = self._planned(self._rows)
        self._by_domain = self._planned_for_gradients() if self._by_domain else []
        say(f"out of memory: held-out text is scored {self._most_tokens} tokens at a time from now on")
        return True

    def _backward(self, batch: _Batch) -> torch.Tensor:
        with torch.enable_grad():
            with self._autocast():
                window_nats = self._window_nats(batch)
            window_nats.sum().backward()  # type: ignore[no-untyped-call]
        return window_nats.detach()

    def _window_nats(self, batch: _Batch) -> torch.Tensor:
        if self._whole_logits is None:
            self._whole_logits = not head_is_plain(self._model, batch.inputs)
        if self._whole_logits:
            nats = whole_target_nats(self._model, batch.inputs, batch.positions, batch.targets).double()
        else:
            body, nats_of = (None, None) if torch.is_grad_enabled() else (self._body, self._nats)
            where = (batch.inputs, batch.positions, batch.targets)
            nats = target_nats(self._model, *where, body=body, nats=nats_of).double()
        return _by_window(nats, batch)

    @contextmanager
    def _as_asked(self) -> Iterator[None]:
        """On a CPU masks stay: compiled, the last digits of earlier values hang on them."""
        device = self._model.device
        with rounding(device, self._precision), without_masks(self._model, device.type == "cuda"):
            yield

    def _autocast(self) -> torch.autocast:
        """Under `no_grad`, not `inference_mode`: autocast keeps a cast weight only where it could have a gradient."""
        device = self._model.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self._precision == "bfloat16")

    def _tokens_at_once(self) -> int:
        device, hidden = self._model.device.type, int(self._model.config.hidden_size)
        return min(TOKENS_AT_ONCE[device], HIDDEN_VALUES_AT_ONCE[device] // hidden)

    def _domains(self) -> list[Rows]:
        return [self.table.rows_of(number) for number in range(len(self.table.domains))]

    def _planned(self, parts: Sequence[Rows], share: int = 1) -> list[list[_Batch]]:
        return [list(self._plan(rows, self._most_tokens // share)) for rows in parts]

    def _planned_for_gradients(self) -> list[list[_Batch]]:
        """Plan fewer tokens a pass for a large model, so that no layer is computed again, where a window has room."""
        share, each = GRADIENT_SHARE, self._activations_of_a_token()
        if self._is_large and int(self.table.lengths.max()) * each <= ACTIVATION_VALUES:
            share = max(share, -(-self._most_tokens * each // ACTIVATION_VALUES))
        return self._planned(self._domains(), share)

    def _plan(self, rows: Rows, tokens_at_once: int) -> Iterator[_Batch]:
        order = rows[np.argsort(-self.table.lengths[rows], kind="stable")]
        start = 0
        while start < len(order):
            length = int(self.table.lengths[order[start]])
            count = max(1, tokens_at_once // length)
            if self._is_large:
                alike = LIKE_LENGTHS * length <= self.table.lengths[order[start : start + count]]
                count = max(1, int(alike.sum()))
            yield self._batch(order[start : start + count], length)
            start += count

    def _batch(self, rows: Rows, length: int) -> _Batch:
        targets = self.table.targets[rows, :length]
        scored = targets != IGNORED
        return _Batch(
            rows,
            inputs=self._tensor(self.table.inputs[rows, :length]),
            positions=self._tensor(np.flatnonzero(scored)),
            targets=self._tensor(targets[scored]),
            owner=self._tensor(np.nonzero(scored)[0]),
        )

    def _tensor(self, array: npt.NDArray[np.signedinteger]) -> torch.Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self._model.device)

    def _activations(self) -> int:
        """Estimate the values of one pass that the backward pass needs."""
        tokens = max(batch.inputs.numel() for batches in self._by_domain for batch in batches)
        return tokens * self._activations_of_a_token()

    @property
    def _is_large(self) -> bool:
        """Whether a few thousand tokens are more than a CPU needs for its speed, so that padding is what costs."""
        return self._model.device.type == "cpu" and LARGE_TOKENS * self._activations_of_a_token() > ACTIVATION_VALUES

    def _activations_of_a_token(self) -> int:
        config = self._model.config
        return int(config.num_hidden_layers) * int(config.hidden_size) * VALUES_PER_HIDDEN


def _read(batches: Sequence[_Batch]) -> Rows:
    return np.concatenate([batch.rows for batch in batches])


def _room(devices: Sequence[torch.device]) -> float:
    """Return how many activation values may be kept: on GPUs, a share of what the fullest one has, for every shard."""
    if devices[0].type == "cpu":
        return ACTIVATION_VALUES
    unused = [torch.cuda.memory_reserved(one) - torch.cuda.memory_allocated(one) for one in devices]
    free = min(torch.cuda.mem_get_info(one)[0] + more for one, more in zip(devices, unused, strict=True))
    return ACTIVATION_SHARE * free * len(devices) / 4


def _by_window(nats: torch.Tensor, batch: _Batch) -> torch.Tensor:
    """Sum nats (N,) of scored tokens by window (B,).

    A GPU adds by index in any order, so sums would differ from run to run: there they go through a grid (B, T).
    """
    if nats.device.type == "cpu":
        return nats.new_zeros(len(batch.rows)).index_add(0, batch.owner, nats)
    return _by_grid(nats, batch)


def _by_grid(nats: torch.Tensor, batch: _Batch) -> torch.Tensor:
    grid = nats.new_zeros(batch.inputs.numel()).index_put((batch.positions,), nats)
    return grid.view(batch.inputs.shape).sum(dim=1)
