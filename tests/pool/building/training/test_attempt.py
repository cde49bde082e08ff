"""A model sharded over processes trains as in one, also killed: on processors here, which stand for as many GPUs."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from pool.building.job import TruthRun, folder_of, train_runs
from pool.building.training.inputs import NOTHING, RunInputs, held_out_text
from pool.building.training.run_files import BESIDE, OPTIMIZER, SHARDED
from pool.building.training.train import TrainingOutcome, train
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.config.pool_file import read_pool_file
from pool.config.recipe import Family, ModelShape, Recipe
from pool.engines.processes import Processes
from pool.errors import PoolError
from pool.mixture import Mixture
from pool.parts.layout import CORPUS
from pool.parts.store import Pool, open_pool

BASE = {"tokens": 12 * 8 * 32, "batch_windows": 8, "learning_rate": 3e-3, "weight_decay": 0.1, "checkpoint_steps": 4}
CLOSE = 1e-3
"""What other orders of sums may make of twelve steps of AdamW, as a share of the way that parameters went."""
Tensors = Mapping[str, torch.Tensor]
needs_two_or_no_gpus = pytest.mark.skipif(torch.cuda.device_count() == 1, reason="one GPU is no two shards")


@dataclass(frozen=True)
class Trained:
    start: Tensors
    parameters: Tensors
    outcome: TrainingOutcome
    beside: Path

    def assert_close(self, other: "Trained") -> None:
        assert _apart(self.parameters, other.parameters, self.start) < CLOSE
        assert self.outcome.tokens == other.outcome.tokens
        assert self.outcome.final_loss_nats == pytest.approx(other.outcome.final_loss_nats, abs=1e-4)
        assert self.outcome.best_step == other.outcome.best_step
        assert self.outcome.held_out_nats == pytest.approx(other.outcome.held_out_nats, abs=1e-4)
        files = [path.relative_to(self.beside) for path in self.beside.rglob("*.safetensors")]
        assert sorted(files) == sorted(path.relative_to(other.beside) for path in other.beside.rglob("*.safetensors"))
        for file in files:
            ours, theirs = load_file(self.beside / file), load_file(other.beside / file)
            assert _apart(ours, theirs, {name: torch.zeros_like(tensor) for name, tensor in ours.items()}) < CLOSE


def _apart(one: Tensors, other: Tensors, start: Tensors) -> float:
    """Euclidean distance of two ends, over how far the first is from the start.

    GPT-2's biases of keys are left out: they change nothing that the model gives, so that roundings alone move them.
    """
    assert set(one) == set(other)
    one = {name: tensor for name, tensor in one.items() if "c_attn.bias" not in name}
    between, gone = (
        sum(float((one[name] - others[name]).double().square().sum()) for name in one) for others in (other, start)
    )
    return math.sqrt(between / gone)


@pytest.fixture
def trained(tiny_pool: Pool, tmp_path: Path) -> Callable[..., Trained]:
    """Train a small model on the tiny pool's text, in a scratch folder of its own."""

    def run(
        name: str, shape: ModelShape, inputs: RunInputs = NOTHING, *, on: str | None = None, **options: Any
    ) -> Trained:
        model = new_model(shape, 384, initial_seed=3)
        start = {called: tensor.clone() for called, tensor in parameters_of(model).items()}
        recipe, scratch = Recipe.model_validate({**BASE, **options}), tmp_path / name
        names = tiny_pool.names
        mixture = Mixture.vertex(names, on) if on else Mixture.uniform(names)
        sharded = scratch / SHARDED / "end.safetensors"
        outcome = train(model, tiny_pool.corpus.train, mixture, recipe, scratch=scratch, label=name, inputs=inputs)
        assert sharded.is_file() == (recipe.fsdp is not None), "shards are trained in processes of their own"
        return Trained(start, parameters_of(model), outcome, scratch / BESIDE)

    return run


def _shape(family: Family, *, tied: bool) -> ModelShape:
    return ModelShape(
        family=family,
        hidden_size=32,
        layers=2,
        attention_heads=2,
        intermediate_size=64,
        context=32,
        tie_embeddings=tied,
    )


@needs_two_or_no_gpus
def test_every_option_is_as_without_shards(tiny_pool: Pool, trained: Callable[..., Trained]) -> None:
    shape = _shape("gpt2", tied=True)
    seed = trained("seed", shape, RunInputs(keeps_optimizer=True))
    generator = torch.Generator().manual_seed(0)
    importance = {name: torch.rand(tensor.shape, generator=generator) for name, tensor in seed.parameters.items()}
    corpus = tiny_pool.manifest.corpus
    other = held_out_text(tiny_pool.folder / CORPUS, corpus, Mixture.vertex(tiny_pool.names, "prose"))
    inputs = RunInputs(optimizer=seed.beside / OPTIMIZER, importance=importance, keeps_optimizer=True, stopping=other)
    options = {
        "tokens": 400 * 8 * 32,
        "schedule": "constant",
        "learning_rate": 5e-3,
        "seed_penalty": {"kind": "ewc", "strength": 1.0},
        "early_stopping": {"every_steps": 5, "patience": 1},
        "continue_optimizer": True,
        "keep_every_steps": 4,
        "accumulate": 2,
        "decayed": "matrices",
        "weight_decay": 3.0,
        "gradient_checkpointing": True,
    }
    alone = trained("alone", shape, inputs, on="code", **options)
    assert alone.outcome.tokens < 400 * 8 * 32, "it stopped early"
    assert {path.parent.name for path in alone.beside.rglob("*.safetensors")} >= {BESIDE, "4", "8"}
    for left_out in ("seed_penalty", "continue_optimizer", "decayed"):
        fewer = {name: option for name, option in options.items() if name != left_out}
        less = replace(inputs, optimizer=None) if left_out == "continue_optimizer" else inputs
        assert _apart(alone.parameters, trained(left_out, shape, less, on="code", **fewer).parameters, alone.start) > (
            10 * CLOSE
        ), f"{left_out} makes a difference"
    trained("shards", shape, inputs, on="code", **options, fsdp=2).assert_close(alone)


@needs_two_or_no_gpus
def test_shards_round_to_bfloat16_where_one_process_does(trained: Callable[..., Trained]) -> None:
    shape, one_step = _shape("olmo2", tied=False), {"tokens": 8 * 32, "learning_rate": 1e-4, "clip_norm": 1e-3}
    exact = trained("exact", shape, **one_step)
    alone = trained("alone", shape, **one_step, precision="bfloat16")
    shards = trained("shards", shape, **one_step, precision="bfloat16", fsdp=2)
    rounded = abs(alone.outcome.final_loss_nats - exact.outcome.final_loss_nats)
    assert rounded > 0
    assert abs(shards.outcome.final_loss_nats - alone.outcome.final_loss_nats) < rounded / 10


@needs_two_or_no_gpus
def test_a_group_of_which_a_process_is_killed_goes_on_from_its_last_checkpoint_also_in_a_worker(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = open_pool(read_pool_file(root / "pool.toml"))
    recipe = Recipe.model_validate({**BASE, "tokens": 30 * 8 * 32})
    run = TruthRun(Mixture.uniform(tiny.names), recipe.model_copy(update={"fsdp": 2}))
    killed: list[psutil.Process] = []

    def kill() -> None:
        while not list((tiny.folder / "trained").rglob("checkpoint-*/digests.json")):
            time.sleep(0.01)
        killed.append(_group(psutil.Process())[-1])
        killed[0].kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    engine = Processes(1, [",".join(map(str, range(torch.cuda.device_count())))])
    assert list(train_runs(tiny, [run], engine)) == [run]
    killer.join(timeout=10)
    said = capsys.readouterr().err
    assert killed and "one of its 2 processes was killed; the run goes on" in said and ": 30/30" in said
    shards = load_file(folder_of(tiny, run) / "model.safetensors")

    alone = load_model(tiny.folder / "seed")
    start = {name: tensor.clone() for name, tensor in parameters_of(alone).items()}
    train(alone, tiny.corpus.train, run.mixture, recipe, scratch=tmp_path / "alone", label="alone")
    assert _apart(parameters_of(alone), shards, start) < CLOSE
    assert folder_of(tiny, TruthRun(run.mixture, recipe)) == folder_of(tiny, run), (
        "shards are no part of what a model is"
    )


def _group(starter: psutil.Process) -> list[psutil.Process]:
    """Find the processes of a group, however far below the process that they were started from."""
    return [child for child in starter.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


ONE_RUN = """
import sys
from pathlib import Path
from pool.checkpoints.checkpoint import new_model
from pool.config.pool_file import read_pool_file
from pool.mixture import Mixture
from pool.config.recipe import ModelShape, Recipe
from pool.parts.store import open_pool
from pool.building.training.train import train

if __name__ == "__main__":
    pool = open_pool(read_pool_file(Path(sys.argv[1])))
    shape = ModelShape(hidden_size=32, layers=2, attention_heads=2, intermediate_size=64, context=32)
    recipe = Recipe(tokens=2_000 * 8 * 32, batch_windows=8, checkpoint_steps=4, fsdp=2)
    train(new_model(shape, 384, initial_seed=3), pool.corpus.train, Mixture.uniform(pool.names), recipe,
          scratch=Path(sys.argv[2]), label="run")
"""


@needs_two_or_no_gpus
def test_the_group_ends_with_the_process_that_started_it(built_root: Path, tmp_path: Path) -> None:
    script, scratch = tmp_path / "one_run.py", tmp_path / "run"
    script.write_text(ONE_RUN)
    command = [sys.executable, str(script), str(built_root / "pool.toml"), str(scratch)]
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # as a shell's job in the background, or Ray's
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=deaf) as starter:
        while not list(scratch.rglob("checkpoint-*/digests.json")):
            assert starter.poll() is None, "it ended by itself"
            time.sleep(0.1)
        group = _group(psutil.Process(starter.pid))
        assert len(group) == 2
        starter.kill()
    _, alive = psutil.wait_procs(group, timeout=10)
    assert not alive


@needs_two_or_no_gpus
def test_what_a_process_of_the_group_refuses_is_said_as_by_one(trained: Callable[..., Trained], tmp_path: Path) -> None:
    save_file({"nothing": torch.zeros(1)}, tmp_path / "empty.safetensors")
    inputs = RunInputs(optimizer=tmp_path / "empty.safetensors")
    remedy = "run `mixscout pool build POOL.toml --rebuild seed`, which makes the seed again"
    with pytest.raises(PoolError, match=rf"^\S+empty.safetensors: holds no state for .*; {remedy}$"):
        trained("run", _shape("llama", tied=True), inputs, continue_optimizer=True, fsdp=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora": {"rank": 2}}, "fsdp and lora cannot both be"),
        ({"device_map": "auto"}, "fsdp and device_map cannot both be"),
        ({"batch_windows": 9}, r"fsdp 2 must divide batch_windows / accumulate \(9\)"),
        ({"accumulate": 8}, r"fsdp 2 must divide batch_windows / accumulate \(1\)"),
        ({"num_gpus": 1}, "num_gpus 1 is too few"),
        ({"fsdp": 1}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_sharded_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate({**BASE, "fsdp": 2, **options})


def test_fewer_gpus_than_shards_are_refused(trained: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(PoolError, match=r"fsdp = 4 takes 4 GPUs, and 3 of them can be seen: lower it, or"):
        trained("few", _shape("llama", tied=True), fsdp=4)


def test_it_is_no_part_of_what_a_pool_is() -> None:
    assert Recipe(fsdp=2).digest == Recipe().digest
