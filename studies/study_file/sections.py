"""The sections of the study file on its goal and its losses, each a checked value, and the marks of all options."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from objectives.aggregates import Aggregate
from objectives.held_out import Precision
from objectives.merging.members.holding import Held, Holding, StoredAs
from objectives.target import Direction, Measure
from pool.files.toml import Config

TargetWeight = Annotated[float, Field(gt=0)]


def all_or_named(value: object) -> object:
    """Take `true`, `false` or a list of ids, whole numbers as text. Raises `ValueError`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and all(isinstance(one, str | int) for one in value):
        return tuple(map(str, value))
    raise ValueError("expected true, or a list of the ids of runs")


class Mark:
    """A mark in an option's annotation, with the parts of a study's identity for the option."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts


class Question(Mark):
    """The option decides the meaning of a value, or which mixtures are allowed."""


class Changeable(Mark):
    """The option says how to search, and may change on the way."""


def parts_marked(section: type[BaseModel], mark: type[Mark]) -> tuple[str, ...]:
    """Name the parts of the identity under a mark, in the order of the options."""
    parts: dict[str, None] = {}
    for field in section.model_fields.values():
        parts |= dict.fromkeys(part for one in field.metadata if isinstance(one, mark) for part in one.parts)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts |= dict.fromkeys(parts_marked(field.annotation, mark))
    return tuple(parts)


def _as_stored(direction: object) -> object:
    """Accept Optuna's spelling too."""
    return {"minimize": "minimise", "maximize": "maximise"}.get(str(direction), direction)


DirectionGiven = Annotated[Direction | None, BeforeValidator(_as_stored)]


class TargetConfig(Config):
    """Held-out domain = weight, for each domain whose loss counts; the weights sum to 1, or to 100 as percent. Their
    weighted mean is minimised. Several [targets.NAME] instead make a study of several objectives with a Pareto front.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TargetWeight] = Field(init=False)

    direction: DirectionGiven = None
    """`maximise` where more is better, as of an accuracy: for metrics of a table; the default is `minimise`. A metric
    that looks like a score needs one of the two."""

    @property
    def weights(self) -> dict[str, float]:
        """Held-out domain -> weight."""
        return dict(self.__pydantic_extra__)


class ObjectiveConfig(Config):
    """What is minimised, and how a merge is made and scored."""

    aggregate: Annotated[Aggregate | None, Question("aggregate")] = None
    """How domains become one value: `weighted` (the default, by [target]); for `domains`, `macro` (their default),
    `micro` (every token counts alike), `worst` (minimax), or `worst-excess` (minimax of the loss less the seed's)."""
    domains: Annotated[tuple[str, ...], Question("target")] = ()
    """Held-out domains of an aggregate that needs no weights, instead of [target]."""
    direction: Annotated[DirectionGiven, Question("target")] = None
    """As in [target]: of `domains`, and of targets without a direction of their own."""
    measure: Annotated[Measure, Question("measure")] = "nats-per-token"
    """Unit of a domain's loss."""
    precision: Annotated[Precision, Question("precision")] = "float32"
    """Precision of the forward pass; merges are float32. `tf32` rounds factors of products to ten bits on a GPU, and is
    float32 on a CPU. On a GPU `bfloat16` is the fastest."""
    member_age: Annotated[int | None, Question("pool")] = Field(None, ge=1)
    """Merge members as they were after so many optimiser steps ([recipe] keep_every_steps kept them); as they ended
    when left out. What is really trained is trained to the end."""
    compiled: Annotated[bool, Question("compiled")] = False
    """Compile the forward pass (torch.compile; needs a C++ compiler). Pays from a few hundred evaluations on."""

    rule: Annotated[Literal["identity", "power", "common-specific", "fisher"], Question("merge rule")] = "identity"
    """From mixture w to merge weights c, with exponent a. `identity`: c_k = w_k. `power`: c_k = w_k^a / sum_j w_j^a.
    `common-specific`: c_k = w_k^a + (1 - sum_j w_j^a) / K, which keeps whole what the K members learnt alike. `fisher`:
    c_k = w_k^a F_k / sum_j w_j^a F_j in every row of a matrix, F_k the Fisher information of the member's own text."""
    exponent: Annotated[float | None, Question("merge rule")] = Field(None, gt=0)
    """The exponent a of the rule, by default 0.5, and 0.8 for `fisher`; `identity` has none."""

    held: Held = "auto"
    """Place of the members during merges: `resident` in the device's memory; `streamed` to a GPU from the host's;
    `mapped` from a file beside the pool; `auto`, the first of these with room. Does not change a loss."""
    stored: Annotated[StoredAs, Question("stored members")] = "float32"
    """Type of the members' values: `float32`, `bfloat16`, or task vectors in `int8`. Changes losses."""
    keep_share: Annotated[float, Question("stored members")] = Field(1.0, gt=0, le=1)
    """Share of values kept in each tensor of a task vector, the largest; the others are the seed's."""
    devices: int = Field(1, ge=1)
    """GPUs over which each model is cut by its layers, where one GPU is too small. Does not change a loss."""

    @property
    def holding(self) -> Holding:
        return Holding(self.held, self.stored, self.keep_share, devices=self.devices)


class EarlyStoppingConfig(Config):
    """When an evaluation is abandoned half-way. Strategies that use gradients always evaluate in full."""

    enabled: bool = True
    """Stop early at all."""
    error_rate: float = Field(0.05, gt=0, lt=0.5)
    """Bound on the chance that a mixture that would have won is abandoned."""


class DownstreamConfig(Config):
    """Minimise the error on tasks of lm-evaluation-harness instead of a held-out loss (needs `mixscout[lm-eval]`)."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of tasks."""
    task_folder: Path | None = None
    """Folder of task files of your own, relative to the study file."""
    metric: str = "acc"
    """The metric that every task must report; its mean is optimised."""
    shots: int = Field(0, ge=0)
    """Examples in the prompt."""
    documents: int | None = Field(None, ge=1)
    """Most documents of a task; all of them when left out."""
