"""A model spread over devices trains as on one, and is left as it was found."""

from pathlib import Path

import pytest
import torch

import pool.building.training.train
from pool.building.training.placement import over_devices
from pool.building.training.train import train
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.recipe import Recipe
from pool.mixture import Mixture
from pool.parts.store import Pool

RECIPE = Recipe(tokens=2_048, batch_windows=8, learning_rate=3e-3)
BLOCKS = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")


def _trained(pool: Pool, scratch: Path, **changes: object) -> dict[str, torch.Tensor]:
    model = load_model(pool.folder / "seed")
    recipe = Recipe.model_validate({**RECIPE.model_dump(), **changes})
    train(model, pool.corpus.train, Mixture.uniform(pool.names), recipe, scratch=scratch, label="test run")
    assert not hasattr(model, "hf_device_map") and all(not hasattr(part, "_hf_hook") for part in model.modules())
    return parameters_of(model)


@pytest.mark.parametrize("option", [{}, {"gradient_checkpointing": True}, {"lora": {"rank": 2}}], ids=str)
def test_the_hooks_of_a_spread_model_change_no_bit(
    option: dict[str, object], tiny_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _trained(tiny_pool, tmp_path / "plain", **option)
    seen: list[list[str]] = []

    def on_the_cpu(model: torch.nn.Module, blocks: list[str], label: str) -> dict[str, str]:
        seen.append(blocks)
        before = "base_model.model." if "lora" in option else ""
        return {before + block: "cpu" for block in BLOCKS}

    monkeypatch.setattr(pool.building.training.train, "device_map_of", on_the_cpu)
    spread = _trained(tiny_pool, tmp_path / "spread", device_map="auto", **option)
    assert seen == [["LlamaDecoderLayer"]], "no layer is split"
    assert all(torch.equal(plain[name], spread[name]) for name in plain)


def test_a_model_is_left_without_hooks_when_training_fails(tiny_pool: Pool) -> None:
    model = load_model(tiny_pool.folder / "seed")
    with pytest.raises(RuntimeError, match="half-way"), over_devices(model, dict.fromkeys(BLOCKS, "cpu")):
        assert all(hasattr(model.get_submodule(block), "_hf_hook") for block in BLOCKS)
        raise RuntimeError("half-way")
    assert all(not hasattr(part, "_hf_hook") for part in model.modules())
    model.to("cpu")


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="there are several GPUs")
def test_too_few_gpus_to_spread_over_are_said(
    tiny_pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = _trained(tiny_pool, tmp_path / "plain")
    asked = _trained(tiny_pool, tmp_path / "asked", device_map="auto")
    assert "test run: device_map spreads a model over two GPUs or more, and there are " in capsys.readouterr().err
    assert all(torch.equal(plain[name], asked[name]) for name in plain)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_layers_on_several_gpus_train_as_on_one(tiny_pool: Pool, tmp_path: Path) -> None:
    plain = _trained(tiny_pool, tmp_path / "plain")
    spread = _trained(tiny_pool, tmp_path / "spread", device_map="auto")
    assert all(torch.allclose(plain[name], spread[name], atol=1e-4) for name in plain)


def test_it_is_no_part_of_what_a_pool_is() -> None:
    assert Recipe(device_map="auto").digest == Recipe().digest
