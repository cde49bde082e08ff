"""Students: smaller models trained on a mixture, with a teacher's probabilities or without, each once.

The folder POOL/students/<digest>/ is named by everything that decides the weights. A student with a teacher and the one
without begin with equal parameters and read equal windows in an equal order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import psutil
import torch
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from pool.building.job import TrainingJob, remedy_of_trained
from pool.building.training import run_files
from pool.building.training.costs import Costs, Seconds, Setting, measure_training
from pool.building.training.inputs import RunInputs, Teacher
from pool.checkpoints.checkpoint import parameters_of
from pool.checkpoints.manifest import CheckpointManifest, verify_checkpoint
from pool.checkpoints.weights import drop_nothing
from pool.config.recipe import Distillation, GivenShape, Recipe
from pool.errors import ConfigError, PoolError, first_line
from pool.files.digests import digest_json
from pool.files.records import MANIFEST
from pool.mixture import Mixture
from pool.parts.layout import PoolLayout, adding_beside_others
from pool.parts.provenance import Provenance, member_provenance
from pool.parts.store import Pool
from pool.progress import kept

STUDENTS = "students"
_OF_CONFIG = ("transformers_version", "_name_or_path", "dtype", "architectures")
"""Keys of a configuration without effect on parameters."""
_WHOLE = {
    **dict.fromkeys(("fsdp", "device_map", "lora", "seed_penalty", "early_stopping", "keep_every_steps")),
    "continue_optimizer": False,
    "replay_share": 0.0,
}
"""A student is small, has no seed, and its runs have equal tokens: these options of a member's recipe are off."""


@dataclass(frozen=True)
class Classroom:
    """A teacher and what is asked of its students.

    teacher_digest: of everything that decides the teacher's weights.
    config: of the students' model; layers: those of the teacher that students begin with, empty for random ones.
    """

    pool: Pool
    mixture: Mixture
    teacher: PreTrainedModel
    teacher_digest: str
    config: PretrainedConfig
    layers: tuple[int, ...]
    settings: Distillation

    @property
    def called(self) -> str:
        """What its students are, in words."""
        count = self.config.num_hidden_layers
        size = f"{count} layer{'s' if count > 1 else ''}"
        if self.layers:
            return f"{size}, begun with the teacher's {', '.join(map(str, self.layers))}"
        return f"{size} ({self.config.model_type}), begun at random"

    @property
    def students(self) -> list[Student]:
        """All students: of every order one with the teacher and one without."""
        return [Student(order, taught) for order in range(self.settings.orders) for taught in (True, False)]


@dataclass(frozen=True)
class Student:
    """One run: an order of the data, with a teacher or without."""

    order: int
    taught: bool

    @property
    def called(self) -> str:
        return f"student {'with' if self.taught else 'without'} teacher, order {self.order}"


def spread_layers(layers: int, count: int) -> tuple[int, ...]:
    """Choose `count` of a teacher's layers, evenly spread from first to last: of 12 six are 0, 2, 4, 7, 9, 11.

    These are DistilBERT's (Sanh et al. 2019, arXiv 1910.01108, and its script of that year), which calls them every
    second layer.
    """
    if count == 1:
        return (0,)
    return tuple(round(number * (layers - 1) / (count - 1)) for number in range(count))


def chosen_layers(teacher: PretrainedConfig, count: int | None) -> tuple[int, ...]:
    """Choose so many of the teacher's layers, half of them for None. Raises `ConfigError` for a count that is none."""
    most = int(teacher.num_hidden_layers)
    count = max(1, most // 2) if count is None else count
    if not 1 <= count < most:
        raise ConfigError(f"layers {count}: the teacher has {most}; give fewer, and at least 1, or a model")
    return spread_layers(most, count)


def with_layers(config: PretrainedConfig, layers: Sequence[int]) -> PretrainedConfig:
    """Return the configuration with these of its layers."""
    smaller = copy.deepcopy(config)
    smaller.num_hidden_layers = len(layers)
    if kinds := getattr(config, "layer_types", None):
        smaller.layer_types = [kinds[number] for number in layers]
    return smaller


def read_config(path: Path, teacher: PreTrainedModel, context: int) -> PretrainedConfig:
    """Read a student's configuration, of a folder or a config.json. Raises `ConfigError` for one that does not fit."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # many types for one fact: no configuration
        raise ConfigError(f"{path}: not a configuration that transformers reads: {first_line(error)}") from None
    rows, most = int(teacher.config.vocab_size), getattr(config, "max_position_embeddings", None)
    if config.vocab_size != rows:
        raise ConfigError(f"{path}: vocab_size is {config.vocab_size}, and the teacher's is {rows}; students share it")
    if most is not None and most < context:
        raise ConfigError(f"{path}: max_position_embeddings is {most}, and windows have {context} tokens; raise it")
    drop_nothing(config)
    return config


def new_student(room: Classroom, order: int) -> PreTrainedModel:
    """Make the model a student of an order begins with; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(order)
        student = cast(
            PreTrainedModel,
            AutoModelForCausalLM.from_config(room.config, dtype=torch.float32),  # type: ignore[no-untyped-call]
        )
    if room.layers:
        _take_over(student, room.teacher, room.layers)
    return student


def _take_over(student: PreTrainedModel, teacher: PreTrainedModel, layers: Sequence[int]) -> None:
    """Copy a teacher's parameters into a student: those of its layers by their places, all others by name."""
    taught, learnt = _decoder(teacher), _decoder(student)
    for place, number in enumerate(layers):
        learnt[1][place].load_state_dict(taught[1][number].state_dict())
    others = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith(taught[0])}
    student.load_state_dict(others, strict=False)


def _decoder(model: PreTrainedModel) -> tuple[str, torch.nn.ModuleList]:
    """Find the decoder layers and the beginning of their names. Raises `PoolError` for a model without such a list."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return f"{name}.", module
    raise PoolError(f"{type(model).__name__} has no list of layers to take over; give a student by --model")


def recipe_of(room: Classroom, student: Student) -> Recipe:
    """Return a member's recipe with the distillation's tokens and learning rate, and the order of the data."""
    settings = room.settings
    asked = {"tokens": settings.tokens, "learning_rate": settings.learning_rate}
    given = {name: value for name, value in asked.items() if value is not None}
    return room.pool.config.recipe.model_copy(update={**_WHOLE, **given, "order_seed": student.order})


def wanted(room: Classroom, student: Student) -> Provenance:
    """Return everything that decides a student's weights; without a teacher no setting of one is among it."""
    parts = {name: value for name, value in room.config.to_dict().items() if name not in _OF_CONFIG}
    start: dict[str, object] = {"config": digest_json(parts), "initial_seed": student.order}
    if room.layers:
        start = {"config": start["config"], "layers": list(room.layers), "of": room.teacher_digest}
    if student.taught:
        lesson = room.settings.model_dump(mode="json", include={"temperature", "hard_share"})
        start |= {"teacher": room.teacher_digest, **lesson}
    manifest = room.pool.manifest
    made = member_provenance(
        room.pool.unit_mixture(room.mixture), recipe_of(room, student), manifest.corpus, manifest.seed
    )
    shape = GivenShape(architecture=room.config.model_type, context=room.pool.config.context)
    return replace(made, start_digest=digest_json(start), shape=shape)


def is_there(room: Classroom, student: Student) -> bool:
    return (folder_of(room, student) / MANIFEST).is_file()


def folder_of(room: Classroom, student: Student) -> Path:
    return room.pool.folder / STUDENTS / wanted(room, student).digest[:16]


@dataclass(frozen=True)
class _Lesson(TrainingJob):
    """The training of one student."""

    room: Classroom | None = None
    student: Student | None = None

    def __call__(self) -> CheckpointManifest:
        """Train, unless another process did meanwhile. Raises `PoolError`."""
        room, student = self.room, self.student
        assert room is not None and student is not None, "a lesson has both"
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            if (self.folder / MANIFEST).is_file():
                return verify_checkpoint(self.folder, self.label, remedy_of_trained(self.folder))
            teacher = Teacher(room.teacher, room.settings.temperature, room.settings.hard_share)
            inputs = RunInputs(teacher=teacher if student.taught else None)
            return self._trained(new_student(room, student.order), self._streams, inputs)


def train_students(room: Classroom, students: Sequence[Student]) -> dict[Student, Path]:
    """Train the missing students one after the other, and return the folders of all, each verified.

    Raises `PoolError` while another command builds the pool, and for a damaged student.
    """
    folders = {student: folder_of(room, student) for student in students}
    missing = [student for student in students if not is_there(room, student)]
    layout, by_name = PoolLayout(room.pool.folder), {student.called: folders[student] for student in missing}
    said = partial(run_files.kept_of, by_name)
    if missing:
        with adding_beside_others(room.pool.folder), kept(lambda: f"kept: {said()}"):
            for number, student in enumerate(missing, start=1):
                shown = f"training {number} of {len(missing)}: {student.called}"
                provenance = wanted(room, student)
                _Lesson(layout, folders[student], provenance, student.called, shown=shown, room=room, student=student)()
    for student, folder in folders.items():
        verify_checkpoint(folder, student.called, remedy_of_trained(folder))
    return folders


def with_students(costs: Costs, room: Classroom) -> Costs:
    """Add the costs of missing students, by a few steps of one; a teacher's passes are reckoned by its parameters."""
    missing = [student for student in room.students if not is_there(room, student)]
    remembered = {**costs.remembered, "students": len(room.students) - len(missing)}
    if not missing:
        return replace(costs, remembered=remembered)
    student, recipe, context = new_student(room, 0), recipe_of(room, missing[0]), room.pool.config.context
    taught = round(recipe.windows(context) * parameters(room.teacher) / parameters(student))
    pace = measure_training(student, recipe, context, Setting(), what=costs.what)
    times = [pace.run(recipe, context, forwards=taught if one.taught else 0) for one in missing]
    return replace(
        costs,
        runs=costs.runs + len(missing),
        train_tokens=costs.train_tokens + len(missing) * recipe.windows(context) * context,
        parts={**costs.parts, "students": Setting().all(times) + Seconds.exactly(pace.first)},
        memory_bytes=max(costs.memory_bytes, psutil.Process().memory_info().rss),
        disk_bytes=costs.disk_bytes + len(missing) * pace.model_bytes,
        passing_bytes=max(costs.passing_bytes, pace.passing_bytes),
        remembered=remembered,
        notes=(*costs.notes, "the teacher's passes are reckoned by its parameters"),
    )


def parameters(model: PreTrainedModel) -> int:
    return sum(one.numel() for one in parameters_of(model).values())
