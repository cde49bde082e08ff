"""The study file (TOML): which pool, which target, which space, which search. Every field with its unit.

What a study file may not ask for on a table, which has no tokens, no seed and no models: refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from objectives.merging.members.holding import Held, Holding, StoredAs
from objectives.scoring.scorer import Precision
from objectives.target.aggregates import Aggregate
from objectives.target.target import Measure
from pool.files.toml import Config, Name, read_config
from search.strategies.registry import STRATEGIES
from search.strategies.strategy import Strategy
from studies.database.address import check_written
from studies.study_file.search_tables import SearchConfig, SpaceConfig, Weight


class ObjectiveConfig(Config):
    """What is minimised, and how a merge is made and scored."""

    aggregate: Aggregate | None = None
    """How domains become one value: `weighted` (the default, by [target]); for `domains`, `macro` (their default),
    `micro` (every token counts alike), `worst` (minimax), or `worst-excess` (minimax of the loss less the seed's)."""
    domains: tuple[str, ...] = ()
    """Held-out domains of an aggregate that needs no weights, instead of [target]."""
    measure: Measure = "nats-per-token"
    """Unit of a domain's loss."""
    precision: Precision = "float32"
    """Precision of the forward pass; merges are float32."""
    member_age: int | None = Field(None, ge=1)
    """Merge members as they were after so many optimiser steps ([recipe] keep_every_steps kept them); as they ended
    when left out. What is really trained is trained to the end."""
    compiled: bool = False
    """Compile the forward pass (torch.compile; needs a C++ compiler). Pays from a few hundred evaluations on."""

    rule: Literal["identity", "power", "common-specific"] = "identity"
    """From mixture to merge weights: the mixture itself; its powers, normalised; or the members' common direction whole
    and the specific directions by the powers."""
    exponent: float = Field(0.5, gt=0)
    """Exponent of the powers; `identity` has none."""

    held: Held = "auto"
    """Where the members are while they are merged: `resident` in the device's memory; `streamed` to a GPU from the
    host's; `mapped` from a file beside the pool; or the first of these that has room. No loss hangs on it."""
    stored: StoredAs = "float32"
    """As what the members' values are held: `float32`, `bfloat16`, or task vectors in `int8`. Losses hang on
    it."""
    keep_share: float = Field(1.0, gt=0, le=1)
    """Share of each tensor of a task vector that is kept, the largest values; the others are the seed's."""

    @property
    def holding(self) -> Holding:
        """How the members are held."""
        return Holding(self.held, self.stored, self.keep_share)


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
    """Prune at all."""
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


class StudyFile(Config):
    """A study file."""

    name: Name
    """Name of the study in the database."""
    pool: Path | None = None
    """Path of the pool file, relative to the study file. A study has either a pool or a table."""
    table: Path | None = None
    """Folder with a table of models already trained (ratios.csv and metrics.csv, or RegMix's files), relative to the
    study file. Domains are then the table's metrics, and a mixture is worth what is predicted from the table."""
    target: dict[str, Weight] = {}
    """Held-out domain -> weight; the weights sum to 1. Minimised is the weighted mean of the domains' losses."""
    targets: dict[Name, dict[str, Weight]] = {}
    """Several targets at once, by name, instead of `target`: a study of several objectives with a Pareto front."""
    constraints: dict[str, float] = {}
    """Held-out domain -> how much worse than the seed it may become, in the objective's measure (negative: better)."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The proxy."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """Early stopping."""
    downstream: DownstreamConfig | None = None
    """Downstream scores as the objective."""
    space: SpaceConfig = SpaceConfig()
    """The mixture space."""
    search: SearchConfig = SearchConfig()
    """The search."""
    gate: GateConfig = GateConfig()
    """The gate."""
    database: str | None = None
    """SQLite file, relative to the study file, or `postgresql://user@host/name` or `mysql://user@host/name`;
    ROOT/mixscout.db when left out, where ROOT is the pool's, or the study file's folder with a table. The environment
    variable MIXSCOUT_STORAGE, a whole URL with its password, wins."""
    database_timeout_seconds: float = Field(60.0, gt=0)
    """How long to wait for a database that is locked or away."""
    lease_seconds: float = Field(60.0, ge=2)
    """How long another machine's worker that died without a word keeps its trial; of this machine's it is known."""

    @model_validator(mode="after")
    def _check_basis(self) -> Self:
        if (self.pool is None) == (self.table is None):
            raise ValueError("say what the study stands on by one of pool = FILE and table = FOLDER")
        if self.table is not None:
            check_table_study(self)
        return self

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        given = [bool(self.target), bool(self.targets), bool(self.objective.domains)]
        if sum(given) != 1:
            raise ValueError(
                "say what is minimised by one of [target] (domain = weight), several [targets.NAME], or "
                "[objective] domains = [...] with an aggregate that needs no weights"
            )
        if not self.objective.domains and self.objective.aggregate not in (None, "weighted"):
            raise ValueError(
                f"aggregate {self.objective.aggregate!r} uses no weights: list the domains under [objective] domains "
                "instead of [target]"
            )
        if self.objective.domains and self.objective.aggregate == "weighted":
            raise ValueError("aggregate 'weighted' needs weights: give [target] instead of [objective] domains")
        if self.downstream and self.targets:
            raise ValueError("[downstream] is one objective: use [target] beside it, not several [targets]")
        return self

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        strategy = self.search.strategy_found
        if self.targets and not strategy.several:
            able = _names([one for one in STRATEGIES.values() if one.several])
            raise ValueError(f"strategy {strategy.name!r} follows one objective; with several [targets] use {able}")
        if self.downstream and strategy.uses_gradient and not strategy.gradient_optional:
            able = _names([one for one in STRATEGIES.values() if not one.uses_gradient or one.gradient_optional])
            raise ValueError(f"downstream scores have no gradient; use strategy {able}")
        if self.targets and self.search.kl > 0:
            raise ValueError("[search] kl is a penalty on one objective: leave it out with several [targets]")
        if self.targets and self.search.stop.min_expected_improvement is not None:
            raise ValueError(
                "[search.stop] min_expected_improvement judges one objective: leave it out with several [targets]"
            )
        for key, other in (("start_from", self.search.start_from), ("evidence_from", self.search.evidence_from)):
            if other == self.name:
                raise ValueError(f"[search] {key} names the study itself, {self.name!r}; name another one")
        if self.search.evidence_from and self.search.kl > 0:
            raise ValueError("[search] evidence_from takes over losses without the penalty of kl: keep one of the two")
        return self


def _names(strategies: list[Strategy]) -> str:
    *some, last = (strategy.name for strategy in strategies)
    return f"{', '.join(some)} or {last}"


def read_study_file(path: Path) -> StudyFile:
    """Read a study file and make its paths absolute. Raises `ConfigError`."""
    config = read_config(path, StudyFile)
    base = path.resolve().parent
    database = config.database
    if database and "://" in database:
        check_written(database, path)
    elif database:
        database = str((base / database).resolve())
    update: dict[str, object] = {"database": database}
    if config.pool is not None:
        update["pool"] = (base / config.pool).resolve()
    if config.table is not None:
        update |= {"table": (base / config.table).resolve(), "database": database or str(base / "mixscout.db")}
    if config.downstream and config.downstream.task_folder:
        folder = (base / config.downstream.task_folder).resolve()
        update["downstream"] = config.downstream.model_copy(update={"task_folder": folder})
    return config.model_copy(update=update)


def check_table_study(config: StudyFile) -> None:
    """Raise `ValueError` that names the first key that a table cannot serve, why, and the way out."""
    for problem in _problems(config):
        raise ValueError(f"{problem} (the study is on a table)")


def _problems(config: StudyFile) -> Iterator[str]:
    if config.space.max_epochs is not None:
        yield "[space] max_epochs needs token counts, which a table has not: leave it out, and set caps"
    if config.space.units == "macro":
        yield "[space] units = 'macro' needs a pool's groups, which a table has not: leave it out"
    for choice in ("proportional", "unimax"):
        if choice in config.search.start:
            yield f"[search] start {choice!r} needs token counts, which a table has not: take it away"
    if config.search.kl and not config.search.prior:
        yield "[search] kl needs [search.prior]: proportional to tokens cannot be known from a table"
    if config.search.stop.tokens is not None:
        yield "[search.stop] tokens does nothing: predictions read no held-out text; leave it out"
    strategy = config.search.strategy_found
    if strategy.uses_gradient and not strategy.gradient_optional:
        able = [one.name for one in STRATEGIES.values() if not one.uses_gradient or one.gradient_optional]
        yield f"strategy {strategy.name!r} needs gradients, which predictions have not: use {', '.join(able)}"
    if config.downstream is not None:
        yield "[downstream] needs models to score: leave it out, and name metrics of the table under [target]"
    if config.constraints:
        yield "[constraints] are relative to the seed, which a table has not: leave them out"
    yield from _objective_problems(config)


def _objective_problems(config: StudyFile) -> Iterator[str]:
    if config.objective.aggregate == "micro":
        yield "[objective] aggregate 'micro' needs token counts, which a table has not: use macro, worst, or [target]"
    if config.objective.aggregate == "worst-excess":
        yield "[objective] aggregate 'worst-excess' is relative to the seed, which a table has not: use worst"
    for name in sorted(config.objective.model_fields_set - {"aggregate", "domains"}):
        yield f"[objective] {name} does nothing: nothing is merged or scored, metrics keep their own unit; leave it out"
    if config.early_stopping.model_fields_set:
        yield "[early_stopping] does nothing: predictions read no held-out text; leave it out"
