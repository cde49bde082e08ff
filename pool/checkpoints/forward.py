"""The forward pass of a model on a GPU: attention without a mask where every token sees all tokens before it.

transformers looks for packed sequences in every batch: on a GPU the processor waits for the answer, and a compiled
model gets a mask (B, 1, T, T), with which flash attention cannot run. Right-padded windows need no mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

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
    """Attend to all tokens before, whatever the mask says; shapes as in transformers, (B, heads, T, width)."""
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, None, **options)
    return attended


AttentionInterface.register(CAUSAL_ONLY, causal_attention)  # no mask is made for a name without a mask function


def sees_all_before(config: PreTrainedConfig) -> bool:
    """Tell whether every layer attends to all tokens before, by torch's attention."""
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    narrowed = any(getattr(config, name, None) for name in _NARROWING)
    return config._attn_implementation == _PLAIN and kinds == {"full_attention"} and not narrowed


@contextmanager
def without_masks(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Have a model attend without masks meanwhile, where its configuration allows; only for windows padded right.

    A class of transformers without exchangeable attention stays as it is.
    """
    if not (wanted and sees_all_before(model.config)):
        yield
        return
    model.set_attn_implementation(CAUSAL_ONLY)
    try:
        yield
    finally:
        model.set_attn_implementation(_PLAIN)
