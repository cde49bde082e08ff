"""The study file (TOML): which pool, which target, which space, which search. Every field with its unit."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pool.config_file import Config, Name, read_config

Weight = Annotated[float, Field(gt=0, le=1)]
StartMixture = Literal["uniform", "proportional", "vertices"]


class SpaceConfig(Config):
    """Which mixtures are feasible."""

    max_members: int | None = Field(None, ge=1)
    """Most partitions in one mixture; all of them when left out."""
    caps: dict[Name, Weight] = {}
    """Largest weight of a partition; 1 where left out."""
    max_epochs: float | None = Field(None, gt=0)
    """Most times a partition may be repeated; caps its weight at tokens x max_epochs / training_budget_tokens."""
    training_budget_tokens: int | None = Field(None, ge=1)
    """Tokens of the training run the mixture is for; the members' own tokens when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.training_budget_tokens is not None and self.max_epochs is None:
            raise ValueError("training_budget_tokens does nothing without max_epochs: set both")
        return self


class ObjectiveConfig(Config):
    """What a merge is."""

    rule: Literal["identity", "power", "common-specific"] = "identity"
    """From mixture to merge weights: the mixture itself; its powers, normalised; or the members' common direction whole
    and the specific directions by the powers."""
    exponent: float = Field(0.5, gt=0)
    """Exponent of the powers; `identity` has none."""


class SearchConfig(Config):
    """How the space is searched."""

    strategy: Literal["gradient", "tpe", "gp", "random"] = "gradient"
    """Who proposes mixtures."""
    merges: int = Field(40, ge=1)
    """Total budget of the study: evaluations charged. `--merges` overrides it."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of proposals and audits."""
    start: tuple[StartMixture, ...] = ("uniform",)
    """Mixtures evaluated first; `vertices` means every single member."""


class GateConfig(Config):
    """When a proposal is pruned before any merge."""

    enabled: bool = True
    """Prune at all."""
    threshold: float = Field(0.05, ge=0, le=1)
    """Prune below this predicted probability of beating the incumbent."""
    audit_rate: float = Field(0.1, ge=0, le=1)
    """Share of such proposals evaluated all the same, to measure the false-prune rate."""
    min_evidence: int = Field(12, ge=3)
    """Evaluations before the gate says anything."""
    patience: int = Field(25, ge=1)
    """Pruned proposals in a row after which one is let through."""


class StudyFile(Config):
    """A study file."""

    name: Name
    """Name of the study in the database."""
    pool: Path
    """Path of the pool file, relative to the study file."""
    target: dict[Name, Weight] = Field(min_length=1)
    """Held-out domain -> weight; the weights sum to 1. What is minimised is the weighted mean loss in nats."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The proxy."""
    space: SpaceConfig = SpaceConfig()
    """The mixture space."""
    search: SearchConfig = SearchConfig()
    """The search."""
    gate: GateConfig = GateConfig()
    """The gate."""
    database: Path | None = None
    """SQLite file, relative to the study file; ROOT/mixscout.db when left out."""
    database_timeout_seconds: float = Field(60.0, gt=0)
    """How long to wait for a locked database."""


def read_study_file(path: Path) -> StudyFile:
    """Read a study file and make its paths absolute. Raises `ConfigError`."""
    config = read_config(path, StudyFile)
    base = path.resolve().parent
    database = (base / config.database).resolve() if config.database else None
    return config.model_copy(update={"pool": (base / config.pool).resolve(), "database": database})
