"""Promises of recipes: what they are called stays, options say what they refuse, and each does what it says."""

from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from transformers import Trainer, TrainingArguments

from pool.building.training.train import train
from pool.building.training.trainer import RecipeTrainer
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.config.recipe import Family, ModelShape, Recipe, SeedRecipe
from pool.engines.resources import Resources
from pool.mixture import Mixture
from pool.parts.store import Pool

RECIPE = Recipe(tokens=2_048, batch_windows=8, learning_rate=3e-3, weight_decay=0.5)


def _trained(pool: Pool, scratch: Path, **changes: object) -> dict[str, torch.Tensor]:
    model = load_model(pool.folder / "seed")
    recipe = Recipe.model_validate({**RECIPE.model_dump(), **changes})
    train(model, pool.corpus.train, Mixture.uniform(pool.names), recipe, scratch=scratch, label="test run")
    return parameters_of(model)


def test_recipes_of_pools_built_before_keep_their_digests() -> None:
    assert Recipe().digest == "12caaec595b0f93b72c2dc0da0f1f610e1b353f871f9a830d627dd265011975d"
    assert SeedRecipe().digest == "ac0fae2353f4c269e0493a8ed0d3d141274d98699c683237ba681985bc41d3f7"
    decays = Recipe(weight_decay=0.1, gradient_checkpointing=True, checkpoint_steps=7)
    assert decays.digest == "a614b1d4df673efc5e2ca054f8f7eb4583e68b63764b7c0ca9fcf83031d3a55f"


@pytest.mark.parametrize("changes", [{"decayed": "all"}, {"accumulate": 2}, {"lora": {}}, {"early_stopping": {}}])
def test_an_option_that_is_set_is_in_the_digest(changes: dict[str, object]) -> None:
    assert Recipe.model_validate(changes).digest != Recipe().digest


def test_frozen_embeddings_stay_the_seed_s_and_all_else_is_trained(tiny_pool: Pool, tmp_path: Path) -> None:
    model = load_model(tiny_pool.folder / "seed")
    frozen = {id(one.weight) for one in (model.get_input_embeddings(), model.get_output_embeddings())}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in frozen}
    start, end = parameters_of(model), _trained(tiny_pool, tmp_path, frozen_embeddings=True)
    assert names and {name for name in start if torch.equal(start[name], end[name])} == names
    assert Recipe(frozen_embeddings=True).digest != Recipe().digest
    for other in ({"lora": {}}, {"fsdp": 2}, {"continue_optimizer": True}, {"seed_penalty": {"strength": 1.0}}):
        with pytest.raises(ValidationError, match=f"frozen_embeddings .* and {next(iter(other))} is not: keep one"):
            Recipe.model_validate({"frozen_embeddings": True, **other})
    with pytest.raises(ValidationError, match="frozen_embeddings is for members, not for the seed"):
        SeedRecipe(frozen_embeddings=True)


def test_what_a_run_takes_of_a_machine_is_in_no_digest() -> None:
    recipe = Recipe(num_cpus=4, num_gpus=2)
    assert recipe.digest == Recipe().digest and recipe.resources == Resources(4, 2)
    assert Recipe(num_gpus=0).resources == Resources(None, 0)
    with pytest.raises(ValidationError, match="a share of one GPU or whole ones: num_gpus is 2.5"):
        Recipe(num_gpus=2.5)
    with pytest.raises(ValidationError, match="num_gpus is for members, not for the seed"):
        SeedRecipe(num_gpus=2)


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("changes", [{}, {"hidden_size": 256, "layers": 6, "tie_embeddings": False}])
def test_the_parameters_of_a_shape_are_estimated_to_a_tenth(family: Family, changes: dict[str, object]) -> None:
    shape = ModelShape.model_validate({"family": family, **changes})
    with torch.device("meta"):
        real = sum(tensor.numel() for tensor in new_model(shape, 4096, initial_seed=0).parameters())
    assert shape.parameters(4096) == pytest.approx(real, rel=0.1)


def test_a_batch_is_cut_into_equal_parts() -> None:
    with pytest.raises(ValidationError, match=r"accumulate 3 must divide batch_windows \(16\)"):
        Recipe(accumulate=3)


def _decayed(pool: Pool, which: str, folder: Path) -> set[str]:
    model = load_model(pool.folder / "seed")
    recipe = Recipe.model_validate({"decayed": which})
    trainer = RecipeTrainer(recipe, model=model, args=TrainingArguments(output_dir=str(folder), use_cpu=True))
    return set(trainer.get_decay_parameter_names(model)) & set(parameters_of(model))


def test_weight_decay_leaves_out_what_it_is_told_to(tiny_pool: Pool, tmp_path: Path) -> None:
    model = load_model(tiny_pool.folder / "seed")
    every = set(parameters_of(model))
    norms = {name for name in every if "norm" in name}
    assert len(norms) == 5
    assert _decayed(tiny_pool, "all", tmp_path) == every
    assert _decayed(tiny_pool, "not-norms", tmp_path) == every - norms
    assert _decayed(tiny_pool, "matrices", tmp_path) == every - norms - {"model.embed_tokens.weight"}
    plain = Trainer(model=model, args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True))
    assert set(plain.get_decay_parameter_names(model)) & every == every - norms, "the default is transformers' own"


def test_what_is_not_decayed_ends_elsewhere_and_only_weight_decay_decides(tiny_pool: Pool, tmp_path: Path) -> None:
    every, matrices = (_trained(tiny_pool, tmp_path / which, decayed=which) for which in ("all", "matrices"))
    assert not torch.equal(every["model.norm.weight"], matrices["model.norm.weight"])
    one, other = (
        _trained(tiny_pool, tmp_path / f"{which}-0", decayed=which, weight_decay=0) for which in ("all", "matrices")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_accumulated_parts_make_the_same_steps(tiny_pool: Pool, tmp_path: Path) -> None:
    whole, parts = _trained(tiny_pool, tmp_path / "whole"), _trained(tiny_pool, tmp_path / "parts", accumulate=4)
    start = parameters_of(load_model(tiny_pool.folder / "seed"))
    for name, tensor in whole.items():
        moved, apart = (tensor - start[name]).norm(), (tensor - parts[name]).norm()
        assert apart < 0.02 * moved, "only the order of sums differs"


def test_tf32_is_float32_on_a_cpu_and_in_the_digest(tiny_pool: Pool, tmp_path: Path) -> None:
    plain, rounded = (_trained(tiny_pool, tmp_path / which, precision=which) for which in ("float32", "tf32"))
    assert all(torch.equal(plain[name], rounded[name]) for name in plain)
    assert Recipe(precision="tf32").digest != Recipe().digest


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("eager", "bfloat16"), pytest.param("inductor", "float32", marks=pytest.mark.long)],
)
def test_a_compiled_model_takes_the_same_steps(
    backend: str, precision: str, tiny_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, traced = _trained(tiny_pool, tmp_path / "plain", precision=precision), []
    compile_with = partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, "compile", lambda call: traced.append(1) or compile_with(call))
    found = _trained(tiny_pool, tmp_path / "compiled", compiled=True, precision=precision)
    start = parameters_of(load_model(tiny_pool.folder / "seed"))
    assert traced == [1] and found.keys() == plain.keys()
    for name, tensor in plain.items():
        assert (tensor - found[name]).norm() < 0.02 * (tensor - start[name]).norm(), "only the order of sums differs"


def test_compiled_is_in_the_digest_where_set_and_is_for_one_device() -> None:
    assert Recipe(compiled=True).digest != Recipe().digest and "compiled" not in Recipe().digest_parts
    for placed in ({"fsdp": 2}, {"device_map": "auto"}, {"lora": {}}):
        with pytest.raises(ValidationError, match=f"one device: take out {next(iter(placed))}, or compiled"):
            Recipe.model_validate({"compiled": True, **placed})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_a_compiled_model(tiny_pool: Pool, tmp_path: Path) -> None:
    plain, found = (_trained(tiny_pool, tmp_path / str(way), compiled=way) for way in (False, True))
    start = parameters_of(load_model(tiny_pool.folder / "seed"))
    for name, tensor in plain.items():
        assert (tensor - found[name]).norm() < 0.05 * (tensor - start[name]).norm()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_no_bit(tiny_pool: Pool, tmp_path: Path, precision: str) -> None:
    plain = _trained(tiny_pool, tmp_path / "plain", precision=precision)
    again = _trained(tiny_pool, tmp_path / "again", precision=precision, gradient_checkpointing=True)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize(
    "option", [{"continue_optimizer": True}, {"replay_share": 0.1}, {"seed_penalty": {"strength": 1}}]
)
def test_the_seed_refuses_by_name_what_speaks_of_a_seed(option: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(option))} is for members.*\\[recipe\\]"):
        SeedRecipe.model_validate(option)
    assert Recipe.model_validate(option).digest != Recipe().digest
