"""Negative log-likelihoods of targets, without ever holding the logits of a whole batch.

The head (V, D) is applied to a few hundred positions at a time, their log-sum-exp taken in float32 (or the model's
float64), and the logits dropped; for a gradient, unless they are few, they are computed again in the backward pass.
Positions without a target never reach the head.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**27}
"""Logits held at once: on a CPU as many as its cache holds, on a GPU enough to fill it."""
LOGITS_KEPT = 2**24
"""Logits of one pass up to which they are kept for the backward pass, which costs less than computing them again."""
FEWEST_POSITIONS = 128
PROBE_POSITIONS = 8
PROBE_TOLERANCE = 1e-3


def target_nats(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    positions: torch.Tensor,
    targets: torch.Tensor,
    *,
    body: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """Return -log p of `targets` (N,) at `positions` (N,) of the flattened `inputs` (B, T), in float32 or float64.

    `body` stands in for the model below its head, where that was compiled.
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


def _nats(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits, targets, reduction="none")


def whole_target_nats(
    model: PreTrainedModel, inputs: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the same from the model's own logits (B, T, V): for models that change them after the head."""
    logits = model(input_ids=inputs, use_cache=False).logits.flatten(0, 1).index_select(0, positions)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits, targets, reduction="none")


def head_is_plain(model: PreTrainedModel, inputs: torch.Tensor) -> bool:
    """Say whether the head's output is what the model calls its logits, on the first positions of `inputs` (B, T).

    Some architectures scale or cap them. Not to be asked of a model whose parameters are all zero.
    """
    inputs = inputs[:1, :PROBE_POSITIONS]
    positions = torch.arange(inputs.shape[1], device=inputs.device)
    with torch.inference_mode(), torch.autocast(inputs.device.type, enabled=False):
        ours, theirs = (f(model, inputs, positions, inputs[0]) for f in (target_nats, whole_target_nats))
    return bool(torch.allclose(ours, theirs, rtol=PROBE_TOLERANCE, equal_nan=True))
