"""The sections of the study file, each a checked value, and the marks of their options."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from objectives.aggregates import Aggregate
from objectives.held_out import Precision
from objectives.merging.members.holding import Held, Holding, StoredAs
from objectives.target import Direction, Measure
from pool.files.names import Name
from pool.files.toml import Config
from search.strategies.registry import STRATEGIES, find_strategy
from search.strategies.strategy import Strategy

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


def _is_share(weight: float) -> float:
    if not 0 < weight <= 1:
        percent = f"; for {weight:g} percent write {weight / 100:g}" if 1 < weight <= 100 else ""
        raise ValueError(f"a weight is above 0 and at most 1{percent}")
    return weight


Weight = Annotated[float, AfterValidator(_is_share)]
TargetWeight = Annotated[float, Field(gt=0)]
TextPrior = Literal["unigrams", "bigrams", "importance"]
"""Mixtures from text alone (see `studies/opened/text_priors.py`)."""
StartMixture = Literal["uniform", "proportional", "vertices", "unimax", "prior", "unigrams", "bigrams", "importance"]


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


class GateConfig(Config):
    """When a proposal is pruned before any merge."""

    enabled: bool = True
    """Prune at all. Without any key of [gate], a study on a table does not: its predictions cost less than judging."""
    threshold: float = Field(0.2, ge=0, le=1)
    """Prune below this predicted probability of beating the incumbent, or with several [targets] of adding to the
    front."""
    audit_rate: float = Field(0.02, ge=0, le=1)
    """Share of such proposals evaluated all the same, to measure the false-prune rate; at most a tenth of merges."""
    min_evidence: int = Field(12, ge=3)
    """Evaluations before the gate says anything."""
    patience: int = Field(100, ge=1)
    """Pruned proposals in a row after which one is let through."""
    max_false_prune_rate: float = Field(0.1, gt=0, le=1)
    """Where audits show a larger share of false prunes than this, the threshold is lowered."""


class SpaceConfig(Config):
    """Which mixtures are feasible."""

    units: Literal["micro", "macro"] = "micro"
    """What has a weight: `micro`, every partition or base unit; `macro`, every group of them, merged evenly within."""
    max_members: int | None = Field(None, ge=1)
    """Most partitions in one mixture; all of them when left out."""
    caps: dict[str, Weight] = {}
    """Largest weight of a partition; 1 where left out."""
    floors: dict[str, Weight] = {}
    """Smallest weight of a partition, which is then in every mixture; 0 where left out."""
    fixed: dict[str, Weight] = {}
    """Weight of a partition that is not searched."""
    exclude: tuple[str, ...] = ()
    """Partitions whose weight is always 0."""
    extrapolate: Annotated[bool, Question("space")] = False
    """On a table: allow weights that no run has. Otherwise the largest weight among the runs, and a tenth more, caps a
    partition; without a run that used the partition, its weight is 0."""
    max_epochs: float | None = Field(None, gt=0)
    """Most times a partition may be repeated; caps its weight at tokens x max_epochs / training_budget_tokens."""
    training_budget_tokens: int | None = Field(None, ge=1)
    """Tokens of the training run the mixture is for; the members' own tokens when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.training_budget_tokens is not None and self.max_epochs is None:
            raise ValueError("training_budget_tokens does nothing without max_epochs: set both")
        bounded = {"caps": set(self.caps), "floors": set(self.floors)}
        for name in sorted(set(self.exclude) & set(self.fixed)):
            raise ValueError(f"{name!r} is in both exclude and fixed: keep one")
        for decided, names in (("exclude", set(self.exclude)), ("fixed", set(self.fixed))):
            for table, others in bounded.items():
                for name in sorted(names & others):
                    raise ValueError(f"{name!r} is in both {decided} and {table}: keep one")
        return self


class RefineConfig(Config):
    """What `mixscout refine` trains after the search, and when it stops."""

    truths: int = Field(6, ge=1)
    """Mixtures to train in all. `--truths` overrides it."""
    margin: float | None = Field(None, gt=0)
    """A difference too small to matter, in the objective's measure. When left out: the noise of a training, where
    `fidelity --repeats` measured it, else 0.03 deviations of the proxy over the space."""
    chance: float = Field(0.05, gt=0, lt=1)
    """Stop when another mixture is better by more than the margin with a probability below this."""


class StopConfig(Config):
    """When to stop before the budget of merges is spent: whichever comes first. A rule that is left out is off."""

    seconds: float | None = Field(None, gt=0)
    """Seconds that one command may go on."""
    tokens: int | None = Field(None, gt=0)
    """Held-out tokens that the study may read in all, like `merges` a total."""
    patience: int | None = Field(None, gt=0)
    """Merges in a row without an improvement; those of the start design do not count."""
    min_improvement: float = Field(0.0, ge=0)
    """What counts as an improvement: more than this, in the objective's measure. Set it to the noise floor."""
    min_expected_improvement: float | None = Field(None, gt=0)
    """Stop when no random mixture is expected to improve by this much, from the gate's min_evidence on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_improvement > 0 and self.patience is None:
            raise ValueError("min_improvement does nothing without patience: set both")
        return self


class SearchConfig(Config):
    """How the space is searched."""

    strategy: Annotated[str, Changeable("strategy")] = Field(
        "auto",
        description=f"Who proposes mixtures: {', '.join(f'`{name}`' for name in STRATEGIES)}; or your own, as "
        "`package.module:make`, where make(space, seed) returns an Optuna sampler.",
    )
    merges: int = Field(40, ge=1)
    """Total budget of the study: evaluations charged. `--merges` overrides it."""
    seed: Annotated[int, Changeable("seed")] = Field(0, ge=0, lt=2**32)
    """Seed of proposals and audits."""
    start: Annotated[tuple[StartMixture, ...], Changeable("start")] = ("uniform",)
    """Mixtures evaluated first, projected where the space does not allow them; `vertices` means every single member,
    `unimax` as even as [space] max_epochs (1 when left out) and the budget allow, `prior` that of [search.prior];
    `unigrams`, `bigrams` and `importance` from the text alone (`mixscout prior` shows them)."""
    start_from: Annotated[Name | None, Changeable("start_from")] = None
    """Another study in the same database, over the same partitions, whose best mixture is evaluated first."""
    evidence_from: Annotated[Name | None, Changeable("evidence_from")] = None
    """Another study in the same database, whose evaluations are taken over where they hold for this one. They cost
    nothing of the budget; those of a pool that was since extended by a partition hold."""
    prior: Annotated[dict[str, float], Question("prior")] = {}
    """A mixture to start from or to stay near: partition -> weight; the weights sum to 1, or to 100 as percent."""
    kl: Annotated[float, Question("kl")] = Field(0.0, ge=0)
    """Times the KL divergence of the mixture from the prior (proportional to tokens when left out) is added to what is
    minimised, in the objective's measure. Nothing is stopped early then: losses are compared without the penalty."""
    tracker: TrackerName | None = None
    """Where progress is also written, under ROOT/reports: `tensorboard`, `mlflow` or `wandb` (offline unless WANDB_MODE
    says otherwise), each needing the extra of its name."""
    retries: int = Field(2, ge=0)
    """Times an evaluation that raised (out of memory, say) is tried again before its trial is kept as failed."""
    stop: StopConfig = StopConfig()
    """Stop rules."""

    @field_validator("strategy")
    @classmethod
    def _check_strategy(cls, name: str) -> str:
        find_strategy(name)
        return name

    @model_validator(mode="after")
    def _check_prior(self) -> Self:
        if "prior" in self.start and not self.prior:
            raise ValueError("start names 'prior', but there is no [search.prior]: give it, or take 'prior' away")
        if self.prior and not self.kl and "prior" not in self.start:
            raise ValueError("[search.prior] does nothing: set kl, or put 'prior' into start")
        return self

    @property
    def strategy_found(self) -> Strategy:
        """The strategy by its name."""
        return find_strategy(self.strategy)
