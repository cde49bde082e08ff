"""Students: where they begin, what they learn, that a kill costs nothing, and that each is made once."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pool.building.students import (
    Classroom,
    Student,
    chosen_layers,
    folder_of,
    new_student,
    read_config,
    recipe_of,
    spread_layers,
    train_students,
    with_layers,
)
from pool.building.training.inputs import Teacher
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.config.pool_file import read_pool_file
from pool.config.recipe import Distillation, Family, ModelShape
from pool.errors import ConfigError, PoolError
from pool.mixture import Mixture
from pool.parts.store import Pool, open_pool

MIXTURE = Mixture.of({"code": 0.5, "docs": 0.5, "prose": 0.0})
SETTINGS = Distillation(tokens=2_600, orders=2)  # ten steps, a checkpoint after five


def _room(pool: Pool, *, layers: tuple[int, ...] = (0,), settings: Distillation = SETTINGS) -> Classroom:
    teacher = load_model(pool.folder / "seed")
    config = with_layers(teacher.config, layers or (0,))
    return Classroom(pool, MIXTURE, teacher, pool.manifest.seed.weights_digest, config, layers, settings)


def test_layers_are_distilberts_of_twelve_and_reach_from_first_to_last() -> None:
    assert spread_layers(12, 6) == (0, 2, 4, 7, 9, 11)
    assert spread_layers(3, 2) == (0, 2) and spread_layers(24, 1) == (0,)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_a_student_begins_with_the_teachers_layers_embeddings_and_head(family: Family, tiny_pool: Pool) -> None:
    teacher = new_model(ModelShape(family=family, hidden_size=32, layers=4, attention_heads=2), 384, initial_seed=3)
    config = with_layers(teacher.config, (0, 3))
    student = new_student(Classroom(tiny_pool, MIXTURE, teacher, "", config, (0, 3), SETTINGS), 0)
    taught, learnt = parameters_of(teacher), parameters_of(student)
    layers = "transformer.h." if family == "gpt2" else "model.layers."
    assert student.config.num_hidden_layers == 2 and len(learnt) < len(taught)
    for name, tensor in learnt.items():
        source = name.replace(f"{layers}1.", f"{layers}3.")
        assert torch.equal(tensor, taught[source]), name


def test_both_students_of_an_order_begin_alike_and_read_alike(tiny_pool: Pool) -> None:
    room = _room(tiny_pool, layers=())
    first, again, other = (parameters_of(new_student(room, order)) for order in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first), "another order begins elsewhere"
    with_it, without = (recipe_of(room, Student(1, taught)) for taught in (True, False))
    assert with_it == without and with_it.order_seed == 1 and with_it.tokens == 2_600


def test_the_loss_is_the_share_of_both_at_the_temperature(tiny_pool: Pool) -> None:
    teacher = load_model(tiny_pool.folder / "seed")
    windows = torch.arange(64).view(2, 32) * 5 % 384
    logits = torch.randn(2, 32, 384, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mixed = Teacher(teacher, 2.0, 0.25).mixed(torch.tensor(3.0), logits, windows, None)
    with torch.no_grad():
        taught = (teacher(input_ids=windows).logits[:, :-1] / 2).softmax(-1)
        learnt = (logits[:, :-1] / 2).softmax(-1)
        divergence = (taught * (taught / learnt).log()).sum(-1).mean()
    assert mixed.item() == pytest.approx(0.25 * 3.0 + 0.75 * 4 * divergence.item(), rel=1e-5)
    halves = [
        Teacher(teacher, 2.0, 0.25).mixed(torch.tensor(1.5), logits[rows], windows[rows], 62)
        for rows in (slice(0, 1), slice(1, 2))
    ]
    assert sum(halves).item() == pytest.approx(mixed.item(), rel=1e-5), "parts of a batch sum to the whole"
    own = Teacher(teacher, 2.0, 0.25).mixed(torch.tensor(0.0), teacher(input_ids=windows).logits, windows, None)
    assert own.item() == pytest.approx(0, abs=1e-5), "who says what the teacher says has nothing to learn"
    assert all(one.grad is None for one in teacher.parameters())


KILLED = """
import os, signal, sys
from pathlib import Path
from pool.building.training.trainer import RecipeTrainer
saved, original = [], RecipeTrainer._save_checkpoint
def killed(self, *arguments, **options):
    original(self, *arguments, **options)
    saved.append(1)
    if len(saved) == 3: os.kill(os.getpid(), signal.SIGKILL)
RecipeTrainer._save_checkpoint = killed
sys.path.insert(0, sys.argv[1])
from test_students import _room, Student, train_students, open_pool, read_pool_file
train_students(_room(open_pool(read_pool_file(Path(sys.argv[2])))), [Student(0, True), Student(0, False)])
"""


def test_killed_for_real_it_goes_on_and_ends_with_the_same_students_which_are_made_once(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    students = [Student(0, True), Student(0, False)]
    pool = open_pool(read_pool_file(root / "pool.toml"))
    room = _room(pool)
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    script = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(root / "pool.toml")]
    died = subprocess.run(script, env=env, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert [folder_of(room, one).exists() for one in students] == [True, False], "one done, one under way"
    train_students(room, students)
    said = capfd.readouterr().err
    assert "training 1 of 1: student without teacher, order 0: 5/10" in said, "it goes on from its checkpoint"
    resumed = {one: load_file(folder_of(room, one) / "model.safetensors") for one in students}
    train_students(room, students)
    assert "training" not in capfd.readouterr().err, "a second call trains nothing"
    for one in students:
        for path in folder_of(room, one).iterdir():
            path.unlink()
        folder_of(room, one).rmdir()
    again = train_students(room, students)
    taught, alone = (load_file(folder / "model.safetensors") for folder in again.values())
    for one, tensors in zip(students, (taught, alone), strict=True):
        assert all(torch.equal(tensor, resumed[one][name]) for name, tensor in tensors.items())
    assert any(not torch.equal(taught[name], alone[name]) for name in taught), "the teacher is heard"
    weights = folder_of(room, students[0]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(PoolError, match=r"student with teacher, order 0: .* altered .*rm -r"):
        train_students(room, students)


def test_a_student_hangs_on_what_decides_it_and_on_no_more(tiny_pool: Pool) -> None:
    room = _room(tiny_pool)
    warm, alone, taught = (
        replace(room, settings=Distillation(tokens=2_600, temperature=4)),
        Student(0, False),
        Student(0, True),
    )
    assert folder_of(warm, alone) == folder_of(room, alone), "no teacher, no temperature"
    assert folder_of(warm, taught) != folder_of(room, taught)
    other = replace(room, teacher_digest="other")
    assert folder_of(other, alone) != folder_of(room, alone), "it begins with the teacher's layers"
    scratch, otherwise = _room(tiny_pool, layers=()), replace(_room(tiny_pool, layers=()), teacher_digest="other")
    assert folder_of(scratch, alone) == folder_of(otherwise, alone)
    assert folder_of(room, Student(1, False)) != folder_of(room, alone)
    kept = replace(room, mixture=Mixture.of({"code": 1.0, "docs": 0.0, "prose": 0.0}))
    assert folder_of(kept, alone) != folder_of(room, alone)


def test_students_that_cannot_be_are_refused_with_what_to_give(tiny_pool: Pool, tmp_path: Path) -> None:
    teacher = load_model(tiny_pool.folder / "seed")
    assert chosen_layers(teacher.config, None) == (0,), "half of two"
    for count in (0, 2):
        with pytest.raises(ConfigError, match=f"layers {count}: the teacher has 2; give fewer"):
            chosen_layers(teacher.config, count)
    with pytest.raises(ConfigError, match="not a configuration that transformers reads"):
        read_config(tmp_path, teacher, 32)
    for change, told in (
        ({"vocab_size": 9}, "vocab_size is 9, and the teacher's is 384"),
        ({"max_position_embeddings": 8}, "raise it"),
    ):
        config = with_layers(teacher.config, (0,))
        config.update(change)
        config.save_pretrained(tmp_path / "config")
        with pytest.raises(ConfigError, match=told):
            read_config(tmp_path / "config", teacher, 32)
