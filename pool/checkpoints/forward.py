"""The forward pass of a model, from windows of tokens to the nats of some of them.

The logits of a whole batch never exist: the head is applied to a few hundred positions at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_layers import GradientCheckpointingLayer

LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**27}
"""Logits held at once: on a CPU the size of its cache, on a GPU enough to fill it."""
LOGITS_KEPT = 2**24
"""Most logits of one pass that are kept for the backward pass, instead of computed again."""
FEWEST_POSITIONS = 128
PROBE_POSITIONS = 8
PROBE_TOLERANCE = 1e-3
CAUSAL_ONLY = "causal_only"
_PLAIN = "sdpa"
_NARROWING = ("sliding_window", "attention_chunk_size", "alibi")
"""Options of a configuration by which a token sees fewer tokens, or sees them by their distance."""


def causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to all tokens before, whatever the mask says; shapes as in transformers, (B, heads, T, width).

    In float32 no fast kernel of a GPU shares a key among several queries: there each query head gets its own copy.
    """
    if key.shape[1] < query.shape[1] and _computes_in_float32(query):
        return _with_keys_copied(query, key, value, options.get("scaling")), None
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, None, **options)
    return attended


def _computes_in_float32(query: torch.Tensor) -> bool:
    return query.is_cuda and query.dtype == torch.float32 and not torch.is_autocast_enabled("cuda")


def _with_keys_copied(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Return the attended values (B, T, heads, width)."""
    copies = query.shape[1] // key.shape[1]
    keys, values = (part.repeat_interleave(copies, dim=1) for part in (key, value))
    return scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scaling).transpose(1, 2).contiguous()


AttentionInterface.register(CAUSAL_ONLY, causal_attention)  # no mask is made for a name without a mask function


def sees_all_before(config: PreTrainedConfig) -> bool:
    """Tell whether every layer attends to all tokens before, by torch's attention."""
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    narrowed = any(getattr(config, name, None) for name in _NARROWING)
    return config._attn_implementation == _PLAIN and kinds == {"full_attention"} and not narrowed


@contextmanager
def rounding(device: torch.device, precision: str) -> Iterator[None]:
    """Round the factors of float32 products to TF32 meanwhile, for the precision `tf32` on a GPU.

    Set around passes of a model only: merges and weight gradients of the same process stay float32.
    """
    if precision != "tf32" or device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def without_masks(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Have a model attend without masks meanwhile, where its configuration allows; only for windows padded right.

    transformers looks for packed sequences in every batch: on a GPU the processor waits for the answer, and a compiled
    model gets a mask (B, 1, T, T), with which flash attention cannot run. A class of transformers without exchangeable
    attention stays as it is.
    """
    if not (wanted and sees_all_before(model.config)):
        yield
        return
    model.set_attn_implementation(CAUSAL_ONLY)
    try:
        yield
    finally:
        model.set_attn_implementation(_PLAIN)


@contextmanager
def compiled(model: torch.nn.Module, wanted: bool) -> Iterator[None]:
    """Compile a model's passes meanwhile, forward and backward, with its loss; names of parameters stay."""
    if not wanted:
        yield
        return
    with without_masks(model, True) if isinstance(model, PreTrainedModel) else nullcontext():
        model.compile()
        try:
            yield
        finally:
            model._compiled_call_impl = None


@contextmanager
def recomputing(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
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


def target_nats(
    model: PreTrainedModel,
    inputs: torch.Tensor,
    positions: torch.Tensor,
    targets: torch.Tensor,
    *,
    body: Callable[..., Any] | None = None,
    nats: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return -log p of `targets` (N,) at `positions` (N,) of the flattened `inputs` (B, T), in float32 or float64.

    A model may lie on several devices: hidden states come from its last layer's, and nats go back to that of `inputs`.

    body: the compiled model below its head, where there is one
    nats: the compiled `position_nats`, where there is one
    """
    body = model.base_model if body is None else body  # a compiled model has no truth value
    nats = position_nats if nats is None else nats
    hidden = body(input_ids=inputs, use_cache=False).last_hidden_state
    hidden = hidden.flatten(0, 1).index_select(0, positions.to(hidden.device))
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    vocabulary = head.weight.shape[0]
    at_once = max(FEWEST_POSITIONS, LOGITS_AT_ONCE[hidden.device.type] // vocabulary)
    parts = zip(torch.split(hidden, at_once), torch.split(targets, at_once), strict=True)
    if torch.is_grad_enabled() and len(targets) * vocabulary > LOGITS_KEPT:
        found = [checkpoint(nats, head, part, target, use_reentrant=False) for part, target in parts]
    else:
        found = [nats(head, part, target) for part, target in parts]
    return torch.cat(found).to(inputs.device)


def position_nats(
    head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    logits = head(hidden)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(logits, targets.to(logits.device), reduction="none")


def whole_target_nats(
    model: PreTrainedModel, inputs: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the same from the model's own logits (B, T, V), for models that change them after the head."""
    logits = model(input_ids=inputs, use_cache=False).logits.flatten(0, 1).index_select(0, positions)
    return position_nats(torch.nn.Identity(), logits, targets)


def head_is_plain(model: PreTrainedModel, inputs: torch.Tensor) -> bool:
    """Tell whether the head's output equals the model's logits on the first positions of `inputs` (B, T).

    Some architectures scale or cap their logits. Meaningless for parameters that are all zero. The class' own forward
    pass is asked: training wraps a model's in mixed precision.
    """
    inputs = inputs[:1, :PROBE_POSITIONS]
    positions = torch.arange(inputs.shape[1], device=inputs.device)
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        ours = target_nats(model, inputs, positions, inputs[0])
        logits = type(model).forward(model, input_ids=inputs, use_cache=False).logits.flatten(0, 1)
        theirs = position_nats(torch.nn.Identity(), logits, inputs[0]).to(ours.device)
    return bool(torch.allclose(ours, theirs, rtol=PROBE_TOLERANCE, equal_nan=True))
