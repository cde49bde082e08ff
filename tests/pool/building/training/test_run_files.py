"""Promises of checkpoints on the way: a damaged one is put aside and said, and the run ends as an undisturbed one."""

import shutil
from pathlib import Path

import pytest
import torch
from damage import WAYS
from transformers import PreTrainedModel, Trainer

from pool.building.training.inputs import NOTHING, RunInputs
from pool.building.training.run_files import DIGESTS, ages_on_the_way, last_checkpoint, step_of
from pool.building.training.train import train
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.recipe import Recipe, StopEarly
from pool.mixture import Mixture
from pool.parts.store import Pool

RECIPE = Recipe(tokens=3_500, batch_windows=8, learning_rate=3e-3, checkpoint_steps=4, keep_every_steps=3)
OF_A_CHECKPOINT = {
    *("model.safetensors", "config.json", "generation_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"),
    *("trainer_state.json", "training_args.bin", DIGESTS),
}


def _trained(pool: Pool, scratch: Path, recipe: Recipe = RECIPE, inputs: RunInputs = NOTHING) -> dict:
    model = load_model(pool.folder / "seed")
    mixture = Mixture.uniform(pool.names)
    train(model, pool.corpus.train, mixture, recipe, scratch=scratch, label="test run", inputs=inputs)
    return parameters_of(model)


def _interrupt(pool: Pool, scratch: Path, at: int, recipe: Recipe = RECIPE, inputs: RunInputs = NOTHING) -> None:
    original = Trainer.training_step

    def interrupted(self: Trainer, *arguments: object, **options: object) -> torch.Tensor:
        if self.state.global_step == at:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "training_step", interrupted)
        _trained(pool, scratch, recipe, inputs)


@pytest.fixture(scope="module")
def interrupted(tiny_pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run cut off after 9 of 13 steps. Shared: never write into it."""
    scratch = tmp_path_factory.mktemp("interrupted") / "run"
    _interrupt(tiny_pool, scratch, at=9)
    return scratch


@pytest.fixture(scope="module")
def whole(tiny_pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return _trained(tiny_pool, tmp_path_factory.mktemp("whole") / "run")


def _last(scratch: Path) -> int:
    return step_of(last_checkpoint(scratch, "test run", ages_on_the_way(scratch, 3, 13)))


@pytest.mark.parametrize("way", WAYS)
def test_every_damaged_file_of_a_checkpoint_is_noticed_and_the_one_before_taken(
    way: str, interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path.name for path in (interrupted / "checkpoint-8").iterdir()}
    assert files == OF_A_CHECKPOINT
    for name in sorted(files):
        scratch = tmp_path / name
        shutil.copytree(interrupted, scratch)
        WAYS[way](scratch / "checkpoint-8" / name)
        capsys.readouterr()
        assert _last(scratch) == 4, name
        said = capsys.readouterr().err
        if (name, way) == (DIGESTS, "missing"):  # as after a kill while the checkpoint was saved
            assert said == "" and not (scratch / "checkpoint-8").exists()
            continue
        assert said.count("\n") == 1 and name in said.partition("checkpoint-8: ")[2], said
        assert "test run: training cannot go on from checkpoint-8" in said
        assert "put aside as damaged-checkpoint-8, and training goes on from checkpoint-4" in said
        assert (scratch / "damaged-checkpoint-8").is_dir() and not (scratch / "checkpoint-8").exists()


@pytest.mark.parametrize(("damaged", "goes_on_from"), [((8,), "checkpoint-4"), ((4, 8), "the start")])
def test_a_run_ends_bit_for_bit_as_if_nothing_had_been_damaged(
    damaged: tuple[int, ...],
    goes_on_from: str,
    tiny_pool: Pool,
    interrupted: Path,
    whole: dict[str, torch.Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scratch = tmp_path / "run"
    shutil.copytree(interrupted, scratch)
    for step in damaged:
        WAYS["cut short"](scratch / f"checkpoint-{step}" / "model.safetensors")
    repaired = _trained(tiny_pool, scratch)
    assert all(torch.equal(whole[name], repaired[name]) for name in whole)
    assert f"training goes on from {goes_on_from}" in capsys.readouterr().err
    assert (scratch / "beside" / "ages" / "12" / "model.safetensors").is_file()


@pytest.mark.parametrize(("age", "goes_on_from"), [(6, 4), (3, 0)])
def test_a_damaged_model_of_an_age_is_made_again(
    age: int, goes_on_from: int, interrupted: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "run"
    shutil.copytree(interrupted, scratch)
    WAYS["a byte changed"](scratch / "beside" / "ages" / str(age) / "model.safetensors")
    assert _last(scratch) == goes_on_from


class _Rising:
    """Held-out text on which the loss rises: the first look stays the best."""

    def __init__(self) -> None:
        self._looks = 0

    def loss_nats(self, model: PreTrainedModel) -> float:
        self._looks += 1
        return float(self._looks)


def test_a_damaged_best_checkpoint_of_early_stopping_is_not_taken_for_the_last_one(
    tiny_pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = RunInputs(stopping=_Rising())
    early = StopEarly(every_steps=2, patience=50)
    recipe = Recipe(tokens=2_560, batch_windows=8, early_stopping=early)
    undisturbed = _trained(tiny_pool, tmp_path / "whole", recipe, inputs)
    scratch = tmp_path / "cut"
    _interrupt(tiny_pool, scratch, 7, recipe, inputs)
    best, last = sorted(scratch.glob("checkpoint-*"), key=step_of)
    assert (step_of(best), step_of(last)) == (2, 6)
    WAYS["cut short"](best / "model.safetensors")
    repaired = _trained(tiny_pool, scratch, recipe, inputs)
    assert all(torch.equal(undisturbed[name], repaired[name]) for name in undisturbed)
    said = capsys.readouterr().err
    assert "cannot go on from checkpoint-6: " in said and f"cannot go on from {best.name}: " in said
    assert "goes on from the start" in said
