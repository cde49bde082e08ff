"""Models made smaller: what is pruned is zero, and what is packed is read back by `from_pretrained`."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from pool.checkpoints.checkpoint import new_model, parameters_of
from pool.checkpoints.compressed import prune, save_quantised, zeros_of
from pool.config.recipe import Family, ModelShape

WINDOWS = torch.arange(96).view(3, 32) * 7 % 384


def _model(family: Family = "llama", *, tied: bool = True) -> PreTrainedModel:
    shape = {"hidden_size": 64, "attention_heads": 2, "intermediate_size": 96, "layers": 2, "context": 32}
    return new_model(ModelShape(family=family, tie_embeddings=tied, **shape), 384, initial_seed=1)


def _bytes(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize(("quantisation", "most_bytes", "most_error"), [("int8", 0.31, 0.02), ("int4", 0.22, 0.2)])
@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("llama", False), ("gpt2", True), ("qwen2", True)])
def test_packed_weights_are_read_back_by_transformers_alone(
    family: Family, tied: bool, quantisation: str, most_bytes: float, most_error: float, tmp_path: Path
) -> None:
    pytest.importorskip("compressed_tensors")
    model = _model(family, tied=tied)
    with torch.no_grad():
        expected = model(input_ids=WINDOWS).logits
    model.save_pretrained(tmp_path / "whole")
    save_quantised(model, tmp_path / "packed", quantisation)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "packed").eval()
    with torch.no_grad():
        logits = read(input_ids=WINDOWS).logits
    assert float((logits - expected).abs().max() / expected.abs().max()) < most_error
    assert _bytes(tmp_path / "packed") < most_bytes * _bytes(tmp_path / "whole"), "embeddings and heads too"
    assert (read.lm_head.weight is read.get_input_embeddings().weight) == tied
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")], "never a pickle"


def test_every_weight_is_at_most_half_a_step_from_its_integer(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    before = {name: one.clone() for name, one in parameters_of(_model()).items()}
    save_quantised(_model(), tmp_path / "packed", "int8")
    after = parameters_of(AutoModelForCausalLM.from_pretrained(tmp_path / "packed"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if weight.ndim == 2:
            step = weight.abs().amax(dim=1, keepdim=True) / 127.5
            assert bool(((after[name] - weight).abs() <= step * 0.5001 + 1e-9).all()), name
        else:
            assert torch.equal(after[name], weight), "norms stay floats"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_magnitude_drops_the_smallest_weights_of_every_linear_layer_and_no_others(family: Family) -> None:
    before = {name: one.clone() for name, one in parameters_of(_model(family)).items()}
    model = _model(family)
    prune(model, 0.25, "magnitude", WINDOWS)
    assert zeros_of(model) > 0.1
    for name, after in parameters_of(model).items():
        dropped = (after == 0) & (before[name] != 0)
        if any(part in name for part in ("proj", "c_attn", "c_fc")) and after.ndim == 2:
            assert int(dropped.sum()) == round(0.25 * after.numel()), name
            assert before[name][dropped].abs().max() <= after[~dropped].abs().min()
        else:
            assert not dropped.any(), "norms, embeddings and the head stay"


def test_wanda_drops_of_each_output_the_weights_with_the_smallest_products() -> None:
    before = parameters_of(_model())["model.layers.0.self_attn.q_proj.weight"].clone()
    model = _model()
    seen: list[torch.Tensor] = []
    layer = model.model.layers[0].self_attn.q_proj
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    prune(model, 0.5, "wanda", WINDOWS)
    handle.remove()
    scores = before.abs() * seen[0].flatten(0, -2).norm(dim=0)
    for row, scored in zip(layer.weight, scores, strict=True):
        assert int((row == 0).sum()) == 32, "the share of every output's weights"
        assert scored[row == 0].max() <= scored[row != 0].min()


def test_wanda_sees_the_inputs_that_earlier_pruning_leaves() -> None:
    model, whole = _model(), _model()
    seen = {}
    for name, one in (("pruned", model), ("whole", whole)):
        one.model.layers[1].mlp.down_proj.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.__setitem__(name, inputs[0].clone())
        )
    prune(model, 0.5, "wanda", WINDOWS)
    whole.model(input_ids=WINDOWS)
    assert not torch.allclose(seen["pruned"], seen["whole"], rtol=1e-3)
    seen_at_once = seen["pruned"]
    model.model(input_ids=WINDOWS)
    assert torch.allclose(seen["pruned"], seen_at_once, rtol=1e-4, atol=1e-6), "as the pruned model computes them"


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_is_above_0_and_below_1(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        prune(_model(), share, "magnitude", WINDOWS)
