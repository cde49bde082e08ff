"""A bill as a value: its parts, its commands, and other ways to the answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from operator import add

from pool.mixture import html_table
from pool.parts.commands import Command
from studies.answers.score import Json

HOUR = 3600.0


@dataclass(frozen=True)
class Part:
    """One part of a bill.

    trainings, merges: models trained, and mixtures scored
    seconds: wall time
    processor_seconds: None where not recorded; wall time then stands in its place
    gpu_seconds: wall time times GPUs
    """

    trainings: int = 0
    merges: int = 0
    trained_tokens: int = 0
    scored_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    processor_seconds: float | None = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Part) -> Part:
        names, processor = [one.name for one in fields(self)], "processor_seconds"
        sums = {name: getattr(self, name) + getattr(other, name) for name in names if name != processor}
        return Part(**sums, processor_seconds=_sum([self.processor_seconds, other.processor_seconds]))

    @property
    def processor_or_wall(self) -> float:
        return self.seconds if self.processor_seconds is None else self.processor_seconds

    @property
    def billed_seconds(self) -> float:
        """Time of GPUs where there is any, else of processors, else wall time."""
        return self.gpu_seconds or self.processor_or_wall


def _sum(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    return None if None in listed else math.fsum(filter(None, listed))


@dataclass(frozen=True)
class Way:
    """A way to the same answer: this study, or trainings alone. Unknown figures are None."""

    name: str
    trainings: int
    flops: float | None = None
    billed_seconds: float | None = None


@dataclass(frozen=True)
class Runs:
    """The recorded runs of one verb: how many, and their times in all."""

    times: int
    seconds: float
    processor_seconds: float

    @classmethod
    def of(cls, commands: Sequence[Command]) -> Runs:
        wall, processor = ([getattr(one, name) for one in commands] for name in ("seconds", "processor_seconds"))
        return cls(len(commands), math.fsum(wall), math.fsum(processor))


@dataclass(frozen=True)
class Bill:
    """What a study has cost.

    parameters: N of each model; None on a table
    commands: what the ledgers of the study and its pool hold, by verb
    decisions: mixtures judged by a value
    ways: this study first, then others
    """

    study: str
    parameters: int | None
    parts: Mapping[str, Part]
    commands: Mapping[str, Runs]
    decisions: int
    ways: Sequence[Way]
    notes: Sequence[str]
    price_per_hour: float | None = field(default=None, kw_only=True)

    @property
    def total(self) -> Part:
        return reduce(add, self.parts.values(), Part())

    @property
    def billed_seconds(self) -> float:
        return math.fsum(part.billed_seconds for part in self.parts.values())

    @property
    def seconds_per_merge(self) -> float | None:
        search = self.parts["search"]
        return search.seconds / search.merges if search.merges else None

    @property
    def trainings_per_decision(self) -> float | None:
        return self.total.trainings / self.decisions if self.decisions else None

    def price(self, seconds: float | None) -> float | None:
        """Return the price of a time; None where one of both is not known."""
        return None if seconds is None or self.price_per_hour is None else seconds / HOUR * self.price_per_hour

    def as_json(self) -> Json:
        def priced(content: Json, billed: float | None) -> Json:
            money = {"price": self.price(billed)} if self.price_per_hour is not None else {}
            return {**content, "billed_seconds": billed, **money}

        return {
            "study": self.study,
            "parameters": self.parameters,
            "parts": {name: priced(asdict(part), part.billed_seconds) for name, part in self.parts.items()},
            "total": priced(asdict(self.total), self.billed_seconds),
            "commands": {verb: asdict(runs) for verb, runs in self.commands.items()},
            "decisions": self.decisions,
            "seconds_per_merge": self.seconds_per_merge,
            "trainings_per_decision": self.trainings_per_decision,
            "ways": [priced(asdict(way), way.billed_seconds) for way in self.ways],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        hours = {name: f"{part.billed_seconds / HOUR:.3g}" for name, part in self.parts.items()}
        return html_table("billed hours", {**hours, "total": f"{self.billed_seconds / HOUR:.3g}"})
