"""The study file (TOML): its sections together, and their checks against each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from objectives.stand_ins.scales import ScalesConfig
from objectives.target import Direction
from pool.config.recipe import Distillation
from pool.errors import ConfigError
from pool.files.names import Name, as_typed, located
from pool.files.toml import Config, as_options, read_config
from pool.mixture import published
from pool.progress import say
from search.strategies.registry import STRATEGIES
from search.strategies.strategy import Strategy
from studies.database.address import DATABASE_FILE, check_written
from studies.study_file.search_sections import GateConfig, RefineConfig, SearchConfig, SpaceConfig
from studies.study_file.sections import (
    Changeable,
    DownstreamConfig,
    EarlyStoppingConfig,
    ObjectiveConfig,
    Question,
    TargetConfig,
    all_or_named,
)


class StudyFile(Config):
    """A study file."""

    title: ClassVar[str] = "a study file"

    name: Name
    """Name of the study in the database."""
    pool: Annotated[Path | None, Question("pool", "held-out text")] = None
    """Path of the pool file, relative to the study file. A study has either a pool or a table."""
    table: Annotated[Path | None, Question("table", "predictor")] = None
    """Folder with a table of models already trained (ratios.csv and metrics.csv, or RegMix's files), relative to the
    study file. Domains are then the table's metrics, and a mixture is worth what is predicted from the table."""
    scales: Annotated[ScalesConfig | None, Question("scales")] = None
    """Runs at several scales."""
    normalise: bool = False
    """Divide weights by their sum, whatever the sum is: those of the table's runs, of [search.prior] and of targets.
    Sums that are 1 but for rounding, and percent, are taken without this key."""
    keep_diverged: Annotated[bool | tuple[str, ...], BeforeValidator(all_or_named), Question("table")] = False
    """Runs of the table to keep although a metric of theirs lies far outside the others': `true` for all, or a list of
    their ids. Such runs are named and left out otherwise."""
    target: Annotated[TargetConfig, Question("target")] = TargetConfig()
    """Held-out domain -> weight, and the direction."""
    targets: Annotated[dict[Name, TargetConfig], Question("target")] = {}
    """Several targets at once, by name, instead of `target`: a study of several objectives with a Pareto front."""
    constraints: Annotated[dict[str, float], Question("constraints")] = {}
    """Held-out domain -> how much worse than the seed it may become, in the objective's measure (negative: better)."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The proxy."""
    early_stopping: Annotated[EarlyStoppingConfig, Changeable("early stopping")] = EarlyStoppingConfig()
    """Early stopping."""
    downstream: Annotated[DownstreamConfig | None, Question("downstream tasks")] = None
    """Downstream scores as the objective."""
    space: Annotated[SpaceConfig, Question("space", "groups", "floors")] = SpaceConfig()
    """The mixture space."""
    search: SearchConfig = SearchConfig()
    """The search."""
    gate: Annotated[GateConfig, Changeable("gate")] = GateConfig()
    """The gate."""
    refine: RefineConfig = RefineConfig()
    """The trainings after the search."""
    distill: Distillation = Distillation()
    """The smaller student."""
    database: str | None = None
    """SQLite file, relative to the study file, or `postgresql://user@host/name` or `mysql://user@host/name`;
    ROOT/mixscout.db when left out, where ROOT is the pool's, or the study file's folder with a table. The environment
    variable MIXSCOUT_STORAGE, a whole URL with its password, wins."""
    database_timeout_seconds: float = Field(60.0, gt=0)
    """How long to wait for a database that is locked or away."""
    lease_seconds: float = Field(60.0, ge=2)
    """How long a dead worker of another machine keeps its trial; the trial of one on this machine is free at once."""
    _typed: str = PrivateAttr("STUDY.toml")
    _file: str = PrivateAttr("the study file")

    def check_pool_there(self) -> None:
        """Raise `ConfigError` where nothing is at `pool`."""
        if self.pool is not None and not self.pool.exists():
            raise ConfigError(f"{self._typed}: 'pool': {self.pool}: no such file; give the path of the pool file")

    @property
    def typed(self) -> str:
        """The study file's path as a word of a command line."""
        return self._typed

    @model_validator(mode="after")
    def _check_basis(self) -> Self:
        if (self.pool is None) == (self.table is None):
            raise ValueError("say what the study stands on by one of pool = FILE and table = FOLDER")
        if self.table is not None:
            for problem in _problems_on_table(self):
                raise ValueError(f"{problem} (the study is on a table)")
        elif "maximise" in {self.objective.direction, *(t.direction for t in (self.target, *self.targets.values()))}:
            raise ValueError(
                "direction = 'maximise' is for metrics of a table: held-out losses of a pool and [downstream] errors "
                "are minimised; leave it out"
            )
        elif self.keep_diverged or self.space.extrapolate or self.scales:
            kept = "keep_diverged" if self.keep_diverged else ""
            key = kept or ("[scales]" if self.scales else "[space] extrapolate")
            raise ValueError(f"{key} does nothing: it is about the runs of a table, and the study is on a pool")
        return self

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        if self.target.direction and not self.target.weights:
            raise ValueError(
                "[target] has a direction and no weights: give NAME = WEIGHT; that of [objective] domains stands under "
                "[objective]"
            )
        given = [bool(self.target.weights), bool(self.targets), bool(self.objective.domains)]
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
        whole = {"compiled": self.objective.compiled, "rule = 'fisher'": self.objective.rule == "fisher"}
        if self.objective.devices > 1 and any(whole.values()):
            found = next(name for name, asked in whole.items() if asked)
            raise ValueError(f"{found} is for a whole model on one device: take out {found}, or devices")
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

    def direction_given(self, table: TargetConfig) -> Direction | None:
        """Return the direction of a target, by itself or by [objective]; None if neither says."""
        return table.direction or self.objective.direction

    @property
    def target_parts(self) -> object:
        """What is optimised, in JSON types, for a study's identity: a direction only where more is better."""
        if self.targets:
            return {name: self._parts_of(table) for name, table in self.targets.items()}
        if self.target.weights:
            return self._parts_of(self.target)
        domains = list(self.objective.domains)
        return {"domains": domains, "direction": "maximise"} if self.objective.direction == "maximise" else domains

    def _parts_of(self, table: TargetConfig) -> dict[str, object]:
        maximised = self.direction_given(table) == "maximise"
        return {**table.weights, **({"direction": "maximise"} if maximised else {})}

    @property
    def gated(self) -> bool:
        """Whether the gate judges proposals; on a table only where the file has a [gate], as predictions cost less."""
        return self.gate.enabled and (self.table is None or bool(self.gate.model_fields_set))


def _names(strategies: list[Strategy]) -> str:
    *some, last = (strategy.name for strategy in strategies)
    return f"{', '.join(some)} or {last}"


def read_study_file(path: Path) -> StudyFile:
    """Read a study file and make its paths absolute. Raises `ConfigError`."""
    config = _with_published_weights(read_config(path, StudyFile), path)
    if config.database:
        check_written(config.database, path)
    try:
        found = config.model_copy(update=_absolute_paths(config, path.resolve().parent))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    found._file = str(path)
    found._typed = as_typed(path) + as_options(path) + (as_options(found.pool, "pool.") if found.pool else "")
    return found


@contextmanager
def naming_file(config: StudyFile) -> Iterator[None]:
    """Put the study file's path before a `ConfigError` of the block."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{config._file}: {error}") from None


def _absolute_paths(config: StudyFile, base: Path) -> dict[str, object]:
    database = config.database
    if database and "://" not in database:
        database = str(located(base, Path(database)).resolve())
    update: dict[str, object] = {"database": database}
    if config.pool is not None:
        update["pool"] = located(base, config.pool).resolve()
    if config.table is not None:
        table = located(base, config.table).resolve()
        update |= {"table": table, "database": database or str(base / DATABASE_FILE)}
    if config.search.encoder is not None:
        encoder = located(base, config.search.encoder).resolve()
        update["search"] = config.search.model_copy(update={"encoder": encoder})
    if config.downstream and config.downstream.task_folder:
        folder = located(base, config.downstream.task_folder).resolve()
        update["downstream"] = config.downstream.model_copy(update={"task_folder": folder})
    return update


def _with_published_weights(config: StudyFile, path: Path) -> StudyFile:
    """Divide weights that are rounded or percent by their sum, and say so; others that are no mixture are left."""

    def read(section: str, weights: dict[str, float]) -> dict[str, float]:
        try:
            mixture, note = published(weights, normalise=config.normalise)
        except ValueError:
            return weights  # refused by the check against the pool or the table
        if note:
            say(f"{path}: [{section}] {note}")
        return mixture.as_dict()

    update: dict[str, object] = {}  # of given sections alone: `compare` copies what was given
    if isinstance(config.search.prior, dict) and config.search.prior:
        prior = read("search.prior", config.search.prior)
        update["search"] = config.search.model_copy(update={"prior": prior})
    if config.target.weights:
        update["target"] = config.target.model_copy(update=read("target", config.target.weights))
    if config.targets:
        update["targets"] = {
            name: one.model_copy(update=read(f"targets.{name}", one.weights)) for name, one in config.targets.items()
        }
    return config.model_copy(update=update)


def _problems_on_table(config: StudyFile) -> Iterator[str]:
    """Name the keys a swarm cannot serve: it has no tokens, seed or models."""
    if config.space.max_epochs is not None:
        yield "[space] max_epochs needs token counts, which a table has not: leave it out, and set caps"
    if config.space.units == "macro":
        yield "[space] units = 'macro' needs a pool's groups, which a table has not: leave it out"
    for choice in config.search.start:
        if choice not in ("uniform", "vertices", "prior"):
            needed = "token counts" if choice in ("proportional", "unimax") else "text"
            yield f"[search] start {choice!r} needs {needed}, which a table has not: take it away"
    if isinstance(config.search.prior, str):
        yield f"[search] prior {config.search.prior!r} needs text, which a table has not: give partition = weight"
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
    for name in sorted(config.objective.model_fields_set - {"aggregate", "direction", "domains"}):
        yield f"[objective] {name} does nothing: nothing is merged or scored, metrics keep their own unit; leave it out"
    if config.early_stopping.model_fields_set:
        yield "[early_stopping] does nothing: predictions read no held-out text; leave it out"
    for section in [name for name in ("refine", "distill") if getattr(config, name).model_fields_set]:
        yield f"[{section}] does nothing: nothing is trained; leave it out"
