"""The forward pass of a GPU, on a CPU: the same bits without a mask, and no mask in a compiled graph."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from pool.checkpoints import forward
from pool.checkpoints.forward import CAUSAL_ONLY, sees_all_before, without_masks

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
WIDTHS = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2}


def _models() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    gpt2 = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=32)
    return [
        LlamaForCausalLM(LlamaConfig(**WIDTHS)).eval(),
        Qwen2ForCausalLM(Qwen2Config(**WIDTHS)).eval(),
        GPT2LMHeadModel(gpt2).eval(),
    ]


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.randint(0, 64, (3, 20), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model", _models(), ids=lambda model: model.config.model_type)
def test_attention_without_masks_gives_the_same_bits(model: PreTrainedModel, windows: torch.Tensor) -> None:
    with torch.no_grad():
        before = model(windows, use_cache=False).logits
        with without_masks(model, True):
            assert model.config._attn_implementation == CAUSAL_ONLY
            assert torch.equal(model(windows, use_cache=False).logits, before)
    assert model.config._attn_implementation == "sdpa", "other uses of the model, as with padding left, need masks"


@pytest.mark.parametrize(("without", "masks"), [(False, 2), (True, 0)])
def test_a_compiled_model_loses_the_masks_of_its_layers(without: bool, masks: int, windows: torch.Tensor) -> None:
    model, found = _models()[0], []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        attended = [node for node in graph.graph.nodes if "scaled_dot_product" in str(node.target)]
        found.extend(node.kwargs.get("attn_mask") is not None for node in attended)
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad(), without_masks(model, without):
        torch.compile(model.base_model, dynamic=True, backend=backend)(input_ids=windows, use_cache=False)
    assert len(found) == 2 and sum(found) == masks


def test_a_model_that_sees_less_keeps_its_masks() -> None:
    plain = {"_attn_implementation": "sdpa"}
    assert sees_all_before(LlamaConfig(**plain)) and sees_all_before(Qwen2Config(**plain))
    assert not sees_all_before(MistralConfig(sliding_window=8, **plain))
    assert not sees_all_before(Qwen2Config(sliding_window=8, use_sliding_window=True, max_window_layers=1, **plain))
    assert not sees_all_before(LlamaConfig(_attn_implementation="eager"))


def test_copied_keys_attend_as_shared_ones(windows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _models()[0]
    with torch.no_grad(), without_masks(model, True):
        shared = model(windows, use_cache=False).logits
        monkeypatch.setattr(forward, "_computes_in_float32", lambda query: True)
        calls, attend = [], forward.scaled_dot_product_attention
        noting = lambda query, key, *rest, **how: calls.append(key.shape[1]) or attend(query, key, *rest, **how)  # noqa: E731
        monkeypatch.setattr(forward, "scaled_dot_product_attention", noting)
        copied = model(windows, use_cache=False).logits
    torch.testing.assert_close(copied, shared, rtol=1e-5, atol=1e-6)
    assert calls == [4, 4], "as many keys as queries in each of two layers"


@pytest.mark.parametrize(("dtype", "heads"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_on_a_gpu_only_float32_copies_keys(dtype: torch.dtype, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def attended(query: torch.Tensor, key: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        seen.append(key.shape[1])
        return query.transpose(1, 2)  # contiguous once it is turned back

    monkeypatch.setattr(forward, "scaled_dot_product_attention", attended)
    monkeypatch.setattr(forward, "sdpa_attention_forward", lambda _, *parts, **__: (attended(*parts), None))
    with FakeTensorMode():
        query, key = (torch.empty(2, count, 8, 16, dtype=dtype, device="cuda") for count in (4, 2))
        forward.causal_attention(torch.nn.Module(), query, key, key)
    assert seen == [heads]


def test_compiled_log_probabilities_are_the_same(windows: torch.Tensor) -> None:
    model, positions = _models()[0], torch.arange(windows.numel())
    torch._dynamo.reset()
    ways = (None, torch.compile(forward.position_nats, dynamic=True, backend="eager"))
    with torch.no_grad():
        plain, compiled = (
            forward.target_nats(model, windows, positions, windows.flatten(), nats=nats) for nats in ways
        )
    torch.testing.assert_close(compiled, plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_grouped_queries_in_float32_use_a_fast_kernel(windows: torch.Tensor) -> None:
    model = _models()[0].cuda()
    fast = [torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION, torch.nn.attention.SDPBackend.FLASH_ATTENTION]
    with torch.no_grad():
        before = model(windows.cuda(), use_cache=False).logits
        with without_masks(model, True), torch.nn.attention.sdpa_kernel(fast):
            torch.testing.assert_close(model(windows.cuda(), use_cache=False).logits, before, rtol=1e-4, atol=1e-5)
