"""Scoring: the nats of held-out windows under the resident model's present parameters.

Right padding never reaches a real token (attention is causal). The logits of a whole batch never exist: the head is
applied to a few hundred scored positions at a time. Log-sum-exps are float32 (or float64), window sums float64.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from objectives.held_out import Floats, Precision
from objectives.scoring.window_table import Rows, WindowTable
from pool.checkpoints.forward import without_masks
from pool.checkpoints.weights import most_positions
from pool.tokens.held_out import IGNORED

TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 32768}
"""Most tokens of one forward pass."""
HIDDEN_VALUES_AT_ONCE = {"cpu": 2**21, "cuda": 2**26}
"""Most tokens times hidden units of one forward pass: fewer tokens fill a wide model."""
GRADIENT_SHARE = 2
"""A forward and backward pass takes fewer tokens by this factor."""
ACTIVATION_VALUES = 2**27
"""Activation values of one pass; above them the backward pass computes layers again."""
VALUES_PER_HIDDEN = 24
"""Values of a decoder layer for its backward pass, per token and hidden unit: measured 20 to 25 for Llama."""
LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**27}
"""Logits held at once: on a CPU the size of its cache, on a GPU enough to fill it."""
LOGITS_KEPT = 2**24
"""Most logits of one pass that are kept for the backward pass, instead of computed again."""
FEWEST_POSITIONS = 128
PROBE_POSITIONS = 8
PROBE_TOLERANCE = 1e-3


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

    precision: `bfloat16` computes in mixed precision (torch autocast), with unchanged parameters
    compiled: compile the forward pass of evaluations without gradient

    Raises `ValueError` for a window longer than the model's context.
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
        everything = [np.arange(len(table.domain))] if segments is None else segments
        self._segments = [(rows, list(self._plan(rows, self._tokens_at_once()))) for rows in everything]
        self._by_domain: list[list[_Batch]] = []

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
        with torch.no_grad(), self._forward():
            for _, batches in self._segments:
                for batch in batches:
                    self._window_nats(batch)
        if self._model.device.type == "cuda":
            torch.cuda.synchronize()

    def score_by_segment(self) -> Iterator[tuple[Rows, Floats]]:
        """Yield the rows (n,) and nats (n,) of each segment, computed when the caller asks."""
        for rows, batches in self._segments:
            with torch.no_grad(), self._forward():
                parts = [self._window_nats(batch) for batch in batches]
            nats = np.empty(len(self.table.domain))
            nats[np.concatenate([batch.rows for batch in batches])] = torch.cat(parts).cpu().numpy()
            yield rows, nats[rows]

    def score_with_jacobian(self, gradient: torch.Tensor, pull: Callable[[], Floats]) -> tuple[Floats, Floats]:
        """Return the nats of every window (W,) and d nats / d weight of every domain (E, K), in one pass.

        `gradient` (P,) is the buffer behind the parameters' `.grad`; `pull` turns it into (K,). Memory is bounded.
        """
        nats = np.empty(len(self.table.domain))
        partials = []
        if not self._by_domain:
            tokens = self._tokens_at_once() // GRADIENT_SHARE
            self._by_domain = [list(self._plan(self.table.rows_of(e), tokens)) for e in range(len(self.table.domains))]
        on_gpu = self._model.device.type == "cuda"
        with _recomputing(self._model, self._many_activations()), without_masks(self._model, on_gpu):
            for batches in self._by_domain:
                gradient.zero_()
                for batch in batches:
                    nats[batch.rows] = self._backward(batch).cpu().numpy()
                partials.append(pull())
        return nats, np.stack(partials)

    def _backward(self, batch: _Batch) -> torch.Tensor:
        with torch.enable_grad():
            with self._autocast():
                window_nats = self._window_nats(batch)
            window_nats.sum().backward()  # type: ignore[no-untyped-call]
        return window_nats.detach()

    def _window_nats(self, batch: _Batch) -> torch.Tensor:
        if self._whole_logits is None:
            self._whole_logits = not _head_is_plain(self._model, batch.inputs)
        if self._whole_logits:
            nats = _whole_target_nats(self._model, batch.inputs, batch.positions, batch.targets).double()
        else:
            body = None if torch.is_grad_enabled() else self._body
            nats = _target_nats(self._model, batch.inputs, batch.positions, batch.targets, body=body).double()
        return _by_window(nats, batch)

    @contextmanager
    def _forward(self) -> Iterator[None]:
        """On a CPU masks stay: compiled, the last digits of earlier values hang on them."""
        with without_masks(self._model, self._model.device.type == "cuda"), self._autocast():
            yield

    def _autocast(self) -> torch.autocast:
        """Under `no_grad`, not `inference_mode`: autocast keeps a cast weight only where it could have a gradient."""
        device = self._model.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self._precision == "bfloat16")

    def _tokens_at_once(self) -> int:
        device, hidden = self._model.device.type, int(self._model.config.hidden_size)
        return min(TOKENS_AT_ONCE[device], HIDDEN_VALUES_AT_ONCE[device] // hidden)

    def _plan(self, rows: Rows, tokens_at_once: int) -> Iterator[_Batch]:
        order = rows[np.argsort(-self.table.lengths[rows], kind="stable")]
        start = 0
        while start < len(order):
            length = int(self.table.lengths[order[start]])
            count = max(1, tokens_at_once // length)
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

    def _many_activations(self) -> bool:
        config = self._model.config
        tokens = max(batch.inputs.numel() for batches in self._by_domain for batch in batches)
        width = int(config.num_hidden_layers) * int(config.hidden_size)
        return tokens * width * VALUES_PER_HIDDEN > ACTIVATION_VALUES


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


@contextmanager
def _recomputing(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Recompute decoder layers in the backward pass; dropout stays off."""
    if not wanted:
        yield
        return
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for layer in layers:
        layer.training = True  # transformers asks for it; inner modules stay in evaluation mode
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        model.activation_checkpointing_disable()  # type: ignore[no-untyped-call]


def _target_nats(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    positions: torch.Tensor,
    targets: torch.Tensor,
    *,
    body: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """Return -log p of `targets` (N,) at `positions` (N,) of the flattened `inputs` (B, T), in float32 or float64.

    `body` is the compiled model below its head, where there is one.
    """
    body = model.base_model if body is None else body
    hidden = body(input_ids=inputs, use_cache=False).last_hidden_state
    hidden = hidden.flatten(0, 1).index_select(0, positions)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    vocabulary = head.weight.shape[0]
    at_once = max(FEWEST_POSITIONS, LOGITS_AT_ONCE[hidden.device.type] // vocabulary)
    parts = zip(torch.split(hidden, at_once), torch.split(targets, at_once), strict=True)
    if torch.is_grad_enabled() and len(targets) * vocabulary > LOGITS_KEPT:
        return torch.cat([checkpoint(_nats, head, part, target, use_reentrant=False) for part, target in parts])
    return torch.cat([_nats(head, part, target) for part, target in parts])


def _nats(head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits, targets, reduction="none")


def _whole_target_nats(
    model: PreTrainedModel, inputs: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the same from the model's own logits (B, T, V), for models that change them after the head."""
    logits = model(input_ids=inputs, use_cache=False).logits.flatten(0, 1).index_select(0, positions)
    return _nats(torch.nn.Identity(), logits, targets)


def _head_is_plain(model: PreTrainedModel, inputs: torch.Tensor) -> bool:
    """Tell whether the head's output equals the model's logits on the first positions of `inputs` (B, T).

    Some architectures scale or cap their logits. Meaningless for parameters that are all zero.
    """
    inputs = inputs[:1, :PROBE_POSITIONS]
    positions = torch.arange(inputs.shape[1], device=inputs.device)
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        ours, theirs = (f(model, inputs, positions, inputs[0]) for f in (_target_nats, _whole_target_nats))
    return bool(torch.allclose(ours, theirs, rtol=PROBE_TOLERANCE, equal_nan=True))
