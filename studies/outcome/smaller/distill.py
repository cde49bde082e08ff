"""The verb `distill`: a smaller student of the best mixture, beside the same student without a teacher.

Both begin with equal parameters and read equal windows in an equal order; orders of the data give a paired interval.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console

from objectives.losses.merged_loss import make_room
from pool.config.recipe import Distillation
from pool.errors import ConfigError
from pool.files.digests import digest_json, short
from pool.files.records import MANIFEST
from pool.files.whole import new_folder, write_text, writing_to
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.progress import say
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.score import Json, PairedOrders
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import note_models
from studies.outcome.handover.export import merged_model, refuse_folder
from studies.outcome.smaller.compress import on_device, whole_table
from studies.terminal import as_html, json_text, plain_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pool.building.students import Classroom, Student
    from pool.building.training.costs import Costs

RECORD, GOAL = "distillation.json", "the study's value"


@dataclass(frozen=True)
class Asked:
    """What students are asked for: so many of the teacher's layers (None: half), or a model of a configuration.

    Raises `ConfigError` for both at once.
    """

    settings: Distillation
    layers: int | None = None
    model: Path | None = None

    def __post_init__(self) -> None:
        if self.layers is not None and self.model is not None:
            raise ConfigError("layers and model both say what the student is: keep one")


def settings_of(file: Distillation, given: Mapping[str, object]) -> Distillation:
    """Put given options over the study file's; None is not given. Raises `ConfigError`."""
    try:
        return Distillation(**{**file.model_dump(), **{key: one for key, one in given.items() if one is not None}})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"[distill] {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True)
class Distilled:
    """A student with a teacher beside the one without, at equal tokens and orders.

    student: what it is, in words; parameters of both.
    teacher: the teacher's test losses by held-out domain, and the study's value.
    students: those of the students, with the teacher first and without it second.
    chosen: the order of the taught student with the lowest value on the search split; `folder` holds that model.
    """

    study: str
    student: str
    settings: Distillation
    tokens: int
    teacher_parameters: int
    student_parameters: int
    teacher: Mapping[str, float]
    students: Mapping[str, PairedOrders]
    chosen: int
    folder: Path
    exported: Path | None = None

    @property
    def verdict(self) -> str:
        """Say whether the teacher helps, on the study's value."""
        goal, orders = self.students[GOAL], self.settings.orders
        if not goal.told_apart:
            return f"Over {orders} orders of data the teacher makes no difference beyond the noise."
        place = "ahead of" if goal.difference < 0 else "behind"
        return f"The student with a teacher is {place} the same student without, beyond the noise of {orders} orders."

    def as_json(self) -> Json:
        return {
            **{name: value for name, value in vars(self).items() if name not in ("folder", "exported")},
            "settings": self.settings.model_dump(mode="json"),
            "students": {
                name: {
                    "taught": one.first,
                    "alone": one.second,
                    "difference": one.difference,
                    "margin": one.margin,
                    "told_apart": one.told_apart,
                }
                for name, one in self.students.items()
            },
            "folder": str(self.folder),
            "exported": None if self.exported is None else str(self.exported),
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        return as_html(lambda console: show_distilled(console, self))


def run_distill(bench: Workbench, best: Mixture, asked: Asked, output: Path | None = None) -> Distilled:
    """Train what is missing of the students, compare them, and write the best taught one to `output`, if given.

    Raises `ConfigError` for a student that does not fit, `StudyError` when `output` is not empty, and `PoolError`.
    """
    if output is not None:
        refuse_folder(output)
    from pool.building.students import folder_of, train_students  # loads torch

    room = classroom(bench, best, asked, _teacher(bench, best, asked.settings))
    make_room(bench.proxy.members)
    note_models(bench, "distill", (folder_of(room, one).relative_to(room.pool.folder) for one in room.students))
    say(f"students of study {bench.config.name!r}: {room.called}")
    found = _compared(bench, room, train_students(room, room.students))
    if output is not None:
        found = replace(found, exported=output)
        _export(bench, found, output)
    return found


def _teacher(bench: Workbench, best: Mixture, settings: Distillation) -> PreTrainedModel:
    if settings.teacher == "merged":
        return merged_model(bench.proxy, best)
    from pool.building.job import train_to_mixture
    from pool.checkpoints.checkpoint import load_model

    trained = train_to_mixture(bench.proxy.pool, best)
    note_models(bench, "distill", [trained.relative_to(bench.proxy.pool.folder)])
    return load_model(trained)


def classroom(bench: Workbench, best: Mixture, asked: Asked, teacher: PreTrainedModel) -> Classroom:
    """Decide what students are. Raises `ConfigError` for more layers than the teacher has, or a misfit model."""
    from pool.building.students import Classroom, chosen_layers, read_config, with_layers

    pool, settings, digest = bench.proxy.pool, asked.settings, _digest_of_teacher(bench, best, asked.settings)
    if asked.model is not None:
        config = read_config(asked.model, teacher, pool.config.context)
        return Classroom(pool, best, teacher, digest, config, (), settings)
    layers = chosen_layers(teacher.config, asked.layers)
    begun = layers if settings.start == "layers" else ()
    return Classroom(pool, best, teacher, digest, with_layers(teacher.config, layers), begun, settings)


def _digest_of_teacher(bench: Workbench, best: Mixture, settings: Distillation) -> str:
    """Digest what decides the teacher's weights, so that equal merges on two machines are one teacher."""
    proxy, parts = bench.proxy, dict[str, object]()
    if settings.teacher == "trained":
        run = TruthRun(best, proxy.pool.config.recipe)
        parts = {"recipe": run.recipe.digest, "seed": proxy.pool.manifest.seed.weights_digest}
    else:
        pool, rule = proxy.pool.manifest.digest, proxy.settings.rule.digest_parts
        parts = {"rule": rule, "dtype": str(proxy.members.dtype), "pool": pool}
    units = proxy.pool.unit_mixture(best).digest
    return digest_json({"teacher": settings.teacher, "mixture": best.digest, "units": units, **parts})


def _compared(bench: Workbench, room: Classroom, folders: Mapping[Student, Path]) -> Distilled:
    """Score the teacher and the students, loaded one after the other."""
    from pool.building.students import Student, parameters, recipe_of
    from pool.checkpoints.checkpoint import load_model

    say(f"scoring the teacher and {len(folders)} students")
    (teacher, _), found, size = _losses(bench, room.teacher), dict[Student, tuple[dict[str, float], float]](), 0
    for student, folder in folders.items():
        model = load_model(folder)
        found[student], size = _losses(bench, model), parameters(model)
    orders = range(room.settings.orders)
    pairs = {
        name: PairedOrders(*(tuple(found[Student(order, one)][0][name] for order in orders) for one in (True, False)))
        for name in teacher
    }
    chosen = min(orders, key=lambda order: found[Student(order, True)][1])
    recipe, context = recipe_of(room, Student(chosen, True)), bench.proxy.pool.config.context
    return Distilled(
        bench.config.name,
        room.called,
        room.settings,
        tokens=recipe.windows(context) * context,
        teacher_parameters=parameters(room.teacher),
        student_parameters=size,
        teacher=teacher,
        students=pairs,
        chosen=chosen,
        folder=folders[Student(chosen, True)],
    )


def _losses(bench: Workbench, model: PreTrainedModel) -> tuple[dict[str, float], float]:
    """Return test losses by held-out domain with the study's value, and the value on the search split."""
    from objectives.scoring.scorer import Scorer

    on_device(model, bench)
    whole, own, precision = whole_table(bench), bench.table("search"), bench.proxy.settings.precision
    by_domain = whole.losses(Scorer(model, whole, precision=precision).score())
    value = bench.goals["test"].value({name: by_domain[name] for name in bench.goals["test"].domains})
    searched = bench.goals["search"].value(own.losses(Scorer(model, own, precision=precision).score()))
    return {**{name: loss.loss_nats for name, loss in by_domain.items()}, GOAL: value}, searched


def _export(bench: Workbench, found: Distilled, output: Path) -> None:
    from pool.checkpoints.checkpoint import load_model

    with writing_to(output), new_folder(output.resolve()) as new:
        load_model(found.folder).save_pretrained(new)
        load_tokenizer(bench.proxy.pool.folder / "tokenizer").save_pretrained(new)
        write_text(new / MANIFEST, (found.folder / MANIFEST).read_text(encoding="utf-8"))
        write_text(new / RECORD, json_text(found) + "\n")
        write_text(new / "README.md", _card(bench, found))


def distill_costs(bench: Workbench, best: Mixture, asked: Asked) -> Costs:
    """Measure what `run_distill` would cost by a few steps of a student."""
    from pool.building.students import with_students
    from pool.checkpoints.checkpoint import load_model
    from studies.running.costs import Work, costs_of

    pool, settings = bench.proxy.pool, asked.settings
    room = classroom(bench, best, asked, load_model(pool.folder / "seed"))  # of the teacher's shape
    runs = [TruthRun(best, pool.config.recipe)] if settings.teacher == "trained" else []
    what = f"the distillation of study {bench.config.name!r}"
    work = Work(what, bench.goals["test"], "test", runs=runs, readings=2 * settings.orders + 1)
    return with_students(costs_of(bench, work), room)


def show_distilled(console: Console, found: Distilled) -> None:
    """Show students to people: losses with and without a teacher, by domain, and what they are worth."""
    console.print("\n".join(_lines(found)), soft_wrap=True)
    table = plain_table("test loss", "teacher", "student, taught", "without teacher", "taught less without")
    for row in _rows(found):
        table.add_row(*row)
    console.print(table)
    console.print(found.verdict, soft_wrap=True)
    console.print(f"The best taught student, of order {found.chosen}: {found.exported or found.folder}", soft_wrap=True)


def _lines(found: Distilled) -> Sequence[str]:
    settings, share = found.settings, found.student_parameters / found.teacher_parameters
    return [
        f"Students of study {found.study}: {found.student}; {found.student_parameters:,} parameters, {share:.2f} of "
        "the teacher's.",
        f"Teacher {settings.teacher}, temperature {settings.temperature:g}, hard share {settings.hard_share:g}; "
        f"{found.tokens:,} tokens each, {settings.orders} orders of data.",
    ]


def _rows(found: Distilled) -> Sequence[tuple[str, ...]]:
    return [
        (name, *(f"{fmean(one):.4f}" for one in ([found.teacher[name]], pair.first, pair.second)), str(pair))
        for name, pair in found.students.items()
    ]


def _card(bench: Workbench, found: Distilled) -> str:
    rows = "\n".join(f"| {' | '.join(row)} |" for row in _rows(found))
    pool, lines = bench.proxy.pool, "\n".join(_lines(found))
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- distillation
- mixscout
---

# {found.study}: a student of the best mixture

{lines}

{found.verdict}

| test loss, nats per token | teacher | student, taught | without teacher | taught less without |
|---|---|---|---|---|
{rows}

Means over orders of the data; this model is of order {found.chosen}, the best of them on the search split. Pool
{pool.config.name} ({short(pool.manifest.digest)}), Mixscout {importlib.metadata.version("mixscout")}. All figures are
in `{RECORD}`, and what decided the weights is in `{MANIFEST}`.
"""
