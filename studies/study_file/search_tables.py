"""The tables [space] and [search] of the study file: which mixtures are feasible, and how they are searched."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pool.files.toml import Config, Name
from search.strategies.registry import STRATEGIES, find_strategy
from search.strategies.strategy import Strategy

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


Weight = Annotated[float, Field(gt=0, le=1)]
StartMixture = Literal["uniform", "proportional", "vertices", "unimax", "prior"]


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

    strategy: str = Field(
        "auto",
        description=f"Who proposes mixtures: {', '.join(f'`{name}`' for name in STRATEGIES)}; or your own, as "
        "`package.module:make`, where make(space, seed) returns an Optuna sampler.",
    )
    merges: int = Field(40, ge=1)
    """Total budget of the study: evaluations charged. `--merges` overrides it."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of proposals and audits."""
    start: tuple[StartMixture, ...] = ("uniform",)
    """Mixtures evaluated first, projected where the space does not allow them; `vertices` means every single member,
    `unimax` as even as [space] max_epochs (1 when left out) and the budget allow, `prior` that of [search.prior]."""
    start_from: Name | None = None
    """Another study in the same database, over the same partitions, whose best mixture is evaluated first."""
    evidence_from: Name | None = None
    """Another study in the same database, whose evaluations are taken over where they hold for this one. They cost
    nothing of the budget; those of a pool that was since extended by a partition hold."""
    prior: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """A mixture to start from or to stay near: partition -> weight; the weights sum to 1."""
    kl: float = Field(0.0, ge=0)
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
