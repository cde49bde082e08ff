"""What recipes give to the command line: ages in a study, what was forgotten, and how fast members are trained."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from given import name_seed, write_foreign
from tiny import edit, snapshot

from pool.building.build import build_pool
from pool.building.training.inputs import training_windows
from pool.building.training.train import TrainingOutcome, train
from pool.building.training.trainer import RecipeTrainer
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.pool_file import read_pool_file
from pool.config.recipe import Recipe
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.store import Pool
from studies.benchmarks.training import TrainingRequest, bare_loop, flops_per_token, run_training


def test_a_study_merges_members_of_an_age_and_is_another_study(root: Path, mixscout) -> None:
    edit(root / "pool.toml", "tokens = 6_000\n", "tokens = 6_000\nkeep_every_steps = 8\n")
    young = root / "young.toml"
    young.write_text((root / "study.toml").read_text().replace('name = "tiny"', 'name = "young"'))
    edit(young, "[gate]", "[objective]\nmember_age = 8\n\n[gate]")
    refused = mixscout("search", young)
    assert refused.code == 1 and refused.err.count("\n") == 1
    assert "member 'code' was not kept at an age of 8 steps (kept: none); set [recipe] keep_every_steps" in refused.err
    shutil.rmtree(root / "pools/tiny/members")
    assert mixscout("pool", "build", root / "pool.toml").code == 0
    for study in (young, root / "study.toml"):
        assert mixscout("search", study, "--merges", 4).code == 0
    one, other = (json.loads(mixscout("best", study, "--json").out) for study in (young, root / "study.toml"))
    uniform, later = (found["baselines"]["uniform"]["search"]["loss_nats"] for found in (one, other))
    assert one["counts"]["cached"] == 0 and uniform != later
    seed, same = (found["baselines"]["seed"]["search"]["loss_nats"] for found in (one, other))
    assert seed == same
    edit(young, "member_age = 8", "member_age = 16")
    assert "pool" in mixscout("search", young).err, "another age is another pool, and refused by name"


def test_pool_check_says_what_was_forgotten_of_the_seed_s_text(root: Path, mixscout) -> None:
    answer = mixscout("pool", "check", root / "pool.toml", "--points", 1, "--json")
    manifest = json.loads((root / "pools/tiny/members/docs/manifest.json").read_text())
    rise = manifest["seed_text"]["after_nats"] - manifest["seed_text"]["before_nats"]
    assert json.loads(answer.out)["members"]["docs"]["forgotten_nats"] == rise
    shown = mixscout("pool", "check", root / "pool.toml", "--points", 1)
    assert f"{rise:+.4f}" in shown.out


def test_the_bare_loop_does_the_work_that_a_member_s_training_does(tiny_pool: Pool, tmp_path: Path) -> None:
    recipe = Recipe(tokens=1_536, batch_windows=8, learning_rate=3e-3, weight_decay=0.3, warmup_share=0.4)
    mixture, models = Mixture.uniform(tiny_pool.names), [load_model(tiny_pool.folder / "seed") for _ in range(3)]
    train(models[0], tiny_pool.corpus.train, mixture, recipe, scratch=tmp_path / "run", label="test run")
    bare_loop(models[1], training_windows(tiny_pool.corpus.train, mixture, recipe, 32), recipe, torch.device("cpu"))
    member, bare, start = (parameters_of(model) for model in models)
    for name, tensor in member.items():
        assert (tensor - bare[name]).norm() < 1e-3 * (tensor - start[name]).norm()


def test_bench_training_prints_the_promised_object(built_root: Path, mixscout) -> None:
    command = ("bench", "training", built_root / "pool.toml", "--steps", 2, "--repeats", 1, "--peak", 0.001)
    answer = mixscout(*command, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["parameters"] == sum(t.numel() for t in load_model(built_root / "pools/tiny/seed").parameters())
    assert found["tokens"] == 2 * 8 * 32 and found["ratio"]["repeats"] == 1
    assert math.isclose(found["ratio"]["median"], found["tokens_per_second"] / found["bare_tokens_per_second"])
    assert found["utilisation"] > 0 and found["device"]


def test_bench_training_times_windows_as_long_as_those_that_members_are_trained_on(
    empty_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_foreign(empty_root / "given", ["a little text"], tied=False)
    name_seed(empty_root / "pool.toml", 'checkpoint = "given"\ncontext = 16')
    pool = build_pool(read_pool_file(empty_root / "pool.toml"))
    trained: list[TrainingOutcome] = []
    monkeypatch.setattr("studies.benchmarks.training.train", lambda *a, **k: trained.append(train(*a, **k)))
    monkeypatch.setattr(RecipeTrainer, "_save_checkpoint", lambda *_, **__: pytest.fail("a bare loop saves nothing"))
    found = run_training(pool, TrainingRequest(steps=2, repeats=1))
    assert {outcome.tokens for outcome in trained} == {found.tokens} == {2 * 8 * 16}


def test_bench_training_refuses_what_it_cannot_time(tiny_pool: Pool) -> None:
    short = {name: stream[:1000] for name, stream in tiny_pool.corpus.train.items()}
    pool = replace(tiny_pool, corpus=replace(tiny_pool.corpus, train=short))
    with pytest.raises(ConfigError, match="no partition of pool 'tiny' has 1024 training tokens"):
        run_training(pool, TrainingRequest(steps=2, repeats=1, is_130m=True))
    lora = tiny_pool.config.model_copy(update={"recipe": Recipe.model_validate({"lora": {}})})
    with pytest.raises(ConfigError, match=r"take \[recipe.lora\] out of the pool file"):
        run_training(replace(tiny_pool, config=lora), TrainingRequest(steps=2, repeats=1))


def test_the_flops_of_a_token_are_those_of_its_matrices_and_of_attention(tiny_pool: Pool) -> None:
    model = load_model(tiny_pool.folder / "seed")
    matrices = 2 * (4 * 32 * 32 + 3 * 32 * 64) + 384 * 32
    norms = 5 * 32
    assert flops_per_token(model, 32) == 6 * (matrices + norms) + 12 * 2 * 32 * 32


def test_what_members_take_is_read_from_the_recipe_and_the_command_line_wins(
    root: Path, mixscout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    before = snapshot(root / "pools")
    edit(root / "pool.toml", "tokens = 6_000", "tokens = 6_000\nnum_gpus = 2")
    monkeypatch.setattr("pool.engines.choice.visible_devices", lambda: ("0",))
    for command in (("pool", "build", root / "pool.toml"), ("fidelity", root / "study.toml")):
        answer = mixscout(*command, "--workers", 2)
        assert answer.code == 1 and answer.err.count("\n") == 1
        assert "1 GPUs for its processes, and each job takes 2 GPUs: give other --num-cpus and --num-gpus" in answer.err
    assert mixscout("pool", "build", root / "pool.toml", "--workers", 2, "--num-gpus", 1).code == 0
    assert snapshot(root / "pools") == before, "nothing is trained again for it"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_timed_over_more_steps(tiny_pool: Pool) -> None:
    found = run_training(tiny_pool, TrainingRequest(steps=None, repeats=1))
    recipe = tiny_pool.config.recipe
    assert found.tokens == 300 * recipe.batch_windows * tiny_pool.config.context
