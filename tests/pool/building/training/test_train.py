"""Promises of the one training path: it learns, repeats itself, and survives being interrupted."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from pool.building.training.attempt import Run, TrainingCourse
from pool.building.training.inputs import RunInputs
from pool.building.training.run_files import discard_scratch, part_windows, smaller_part, take_smaller_part
from pool.building.training.train import memory_line, train
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.config.recipe import Lora, ModelShape, Recipe
from pool.engines.resources import is_out_of_memory
from pool.errors import PoolError
from pool.mixture import Mixture
from pool.parts.store import Pool

RECIPE = Recipe(tokens=3_000, batch_windows=8, learning_rate=3e-3, checkpoint_steps=4)


def _trained(pool: Pool, scratch: Path, recipe: Recipe = RECIPE) -> dict[str, torch.Tensor]:
    model = load_model(pool.folder / "seed")
    train(model, pool.corpus.train, Mixture.uniform(pool.names), recipe, scratch=scratch, label="test run")
    return parameters_of(model)


def test_training_lowers_the_loss_on_what_it_reads(tiny_pool: Pool) -> None:
    start = tiny_pool.manifest.seed
    assert start.final_loss_nats < np.log(384) - 0.5
    for member in tiny_pool.manifest.members.values():
        assert member.tokens == 5_888


def test_the_same_run_twice_gives_the_same_parameters_bit_for_bit(tiny_pool: Pool, tmp_path: Path) -> None:
    first, second = _trained(tiny_pool, tmp_path / "a"), _trained(tiny_pool, tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_interrupted_run_goes_on_and_ends_the_same_bit_for_bit(
    tiny_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _trained(tiny_pool, tmp_path / "whole")
    steps: list[int] = []
    original = Trainer.training_step

    def interrupted(self: Trainer, *arguments: object, **options: object) -> torch.Tensor:
        steps.append(self.state.global_step)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _trained(tiny_pool, tmp_path / "cut")
    half_written = tmp_path / "cut" / "checkpoint-8"
    shutil.copytree(tmp_path / "cut" / "checkpoint-4", half_written)
    (half_written / "trainer_state.json").write_text('{"global_st')
    resumed = _trained(tiny_pool, tmp_path / "cut")
    assert steps[7] == 4, "it did not go on from the last whole checkpoint"
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    discard_scratch(tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_trains(tiny_pool: Pool, tmp_path: Path, schedule: str, precision: str) -> None:
    changes = {"schedule": schedule, "tokens": 600, "warmup_share": 0.5, "precision": precision}
    recipe = RECIPE.model_copy(update=changes)
    assert _trained(tiny_pool, tmp_path, recipe)


def test_parameters_that_blow_up_are_an_error_and_not_a_model(tiny_pool: Pool, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(PoolError, match="test run has NaN or infinite values in .*lower learning_rate"):
        _trained(tiny_pool, tmp_path, recipe)


def test_building_a_model_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    one = parameters_of(new_model(ModelShape(hidden_size=32), 300, initial_seed=1))
    two = parameters_of(new_model(ModelShape(hidden_size=32), 300, initial_seed=1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.pool_file import read_pool_file
from pool.mixture import Mixture
from pool.config.recipe import Recipe
from pool.parts.store import open_pool
from pool.building.training.train import train

pool = open_pool(read_pool_file(Path(sys.argv[1]) / "pool.toml"))
out, limited = Path(sys.argv[2]), sys.argv[3] == "limited"

def run(model, recipe, name):
    mixture = Mixture.uniform(pool.names)
    outcome = train(model, pool.corpus.train, mixture, recipe, scratch=out / name, label=name)
    return outcome

run(load_model(pool.folder / "seed"), Recipe(tokens=256, batch_windows=8), "warm-up")
model = load_model(pool.folder / "seed")  # by several threads, as many as there is time to start, with a stack each
if limited:
    used = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")]
    room = int(used[0].split()[1]) * 1024 + 60 * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (room, resource.RLIM_INFINITY))
outcome = run(model, Recipe(tokens=2 * 512 * 32, batch_windows=512, checkpoint_steps=1), "run")
save_file({name: tensor.contiguous() for name, tensor in parameters_of(model).items()}, out / "weights.safetensors")
print(outcome.final_loss_nats, outcome.tokens)
"""


def _run_in(memory: str, root: Path, out: Path) -> tuple[dict[str, torch.Tensor], list[str], str]:
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(root), str(out), memory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return load_file(out / "weights.safetensors"), done.stdout.split(), done.stderr


def test_a_batch_that_memory_is_too_small_for_is_summed_over_parts_in_the_same_steps(
    built_root: Path, tmp_path: Path
) -> None:
    whole, (loss, tokens), _ = _run_in("plenty", built_root, tmp_path / "plenty")
    parts, (loss_in_parts, tokens_in_parts), said = _run_in("limited", built_root, tmp_path / "limited")
    assert "run: out of memory; trying 256 of 512 windows at a time" in said
    tried = [int(line.split()[5]) for line in said.splitlines() if "out of memory; trying" in line]
    recipe = Recipe(batch_windows=512)
    assert part_windows(recipe, tmp_path / "limited/run") == tried[-1], "where it is gone on with, it begins with that"
    assert tokens_in_parts == tokens and float(loss_in_parts) == pytest.approx(float(loss), abs=1e-3)
    start = parameters_of(load_model(built_root / "pools/tiny/seed"))
    for name, tensor in whole.items():
        moved, apart = (tensor - start[name]).norm(), (tensor - parts[name]).norm()
        assert apart < 0.02 * moved, "only the order of sums differs"


@pytest.mark.parametrize("lora", [None, Lora(rank=2, targets=("q_proj",))])
@pytest.mark.parametrize("start", [True, False])
def test_a_run_out_of_memory_begins_again_as_it_began(tiny_pool: Pool, tmp_path, monkeypatch, lora, start) -> None:
    if lora:
        pytest.importorskip("peft")
    begun: list[dict[str, torch.Tensor]] = []

    def attempted(model: torch.nn.Module, run: Run, part: int) -> TrainingCourse | None:
        begun.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        return TrainingCourse(1, None, {1: 0.0}, {}) if len(begun) > 1 else None

    monkeypatch.setattr("pool.building.training.train.attempt", attempted)
    load = partial(load_model, tiny_pool.folder / "seed")
    recipe, inputs = Recipe(batch_windows=2, lora=lora, order_seed=3), RunInputs(start=load if start else None)
    mixture = Mixture.uniform(tiny_pool.names)
    train(load(), tiny_pool.corpus.train, mixture, recipe, scratch=tmp_path / "run", label="run", inputs=inputs)
    first, again = begun
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


def test_a_training_says_what_it_holds() -> None:
    line = memory_line(Recipe(batch_windows=4, accumulate=2), 10**9, 256)
    assert line.startswith("each training holds about 4.00 GB (parameters, gradients and moments of AdamW), and the ")
    assert "activations of up to 2 windows of 256 tokens" in line and "of the host's memory are free" in line
    assert "1.00 GB and little more (parameters beside its adapters)" in memory_line(Recipe(lora=Lora()), 10**9, 256)


def test_the_size_of_parts_is_kept_for_the_next_attempt_of_a_run(tmp_path: Path) -> None:
    recipe = Recipe(batch_windows=12, accumulate=2)
    assert part_windows(recipe, tmp_path) == 6
    assert [take_smaller_part(recipe, tmp_path / "new") for _ in range(4)] == [3, 1, None, None]
    assert part_windows(recipe, tmp_path / "new") == 1
    for unfit in ("5", "12", "0", "half of a"):
        (tmp_path / "part_windows").write_text(unfit)
        assert part_windows(recipe, tmp_path) == 6


def test_parts_of_a_batch_sum_to_it() -> None:
    assert [smaller_part(part, 12) for part in (12, 6, 4, 3, 2)] == [6, 3, 2, 1, 1]
    assert smaller_part(7, 7) == 1


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    mapping = "unable to mmap 3240144 bytes from file <model.safetensors>: Cannot allocate memory (12)"
    assert is_out_of_memory(RuntimeError(mapping)), "this machine's own words for it"
    assert not is_out_of_memory(RuntimeError("shapes do not match")) and not is_out_of_memory(
        ValueError("out of memory")
    )
