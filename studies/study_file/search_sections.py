"""The sections of the study file on its space, its search and its trainings, each a checked value."""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from pool.files.names import Name
from pool.files.toml import Config
from search.strategies.registry import STRATEGIES, find_strategy
from search.strategies.strategy import Strategy
from studies.study_file.sections import Changeable, Question

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
TextPrior = Literal["unigrams", "bigrams", "importance", "embeddings", "cross-entropy"]
"""Mixtures from text alone (see `studies/opened/text_priors.py`)."""
StartMixture = Literal["uniform", "proportional", "vertices", "unimax", "prior", TextPrior]


def _is_share(weight: float) -> float:
    if not 0 < weight <= 1:
        percent = f"; for {weight:g} percent write {weight / 100:g}" if 1 < weight <= 100 else ""
        raise ValueError(f"a weight is above 0 and at most 1{percent}")
    return weight


Weight = Annotated[float, AfterValidator(_is_share)]


def _weights_or_named(value: object) -> object:
    """Take partition = weight, or the name of a mixture from text. Raises `ValueError`."""
    if isinstance(value, dict):
        wrong = [
            key for key, weight in value.items() if isinstance(weight, bool) or not isinstance(weight, int | float)
        ]
        if wrong:
            raise ValueError(f"the weight of {wrong[0]!r} is no number: got {value[wrong[0]]!r}")
        return value
    if value in get_args(TextPrior):
        return value
    raise ValueError(f"expected partition = weight, or one of {', '.join(map(repr, get_args(TextPrior)))}")


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
    `unimax` as even as [space] max_epochs (1 when left out) and the budget allow, `prior` that of [search.prior]; the
    others from the text alone (`mixscout prior` shows them), which are then baselines of `best` and `confirm` too."""
    start_from: Annotated[Name | None, Changeable("start_from")] = None
    """Another study in the same database, over the same partitions, whose best mixture is evaluated first."""
    evidence_from: Annotated[Name | None, Changeable("evidence_from")] = None
    """Another study in the same database, whose evaluations are taken over where they hold for this one. They cost
    nothing of the budget; those of a pool that was since extended by a partition hold."""
    prior: Annotated[dict[str, float] | TextPrior, BeforeValidator(_weights_or_named), Question("prior")] = {}
    """A mixture to start from or to stay near: partition -> weight; the weights sum to 1, or to 100 as percent. Or the
    name of a mixture from text alone, a hundredth of it uniform; the study keeps the weights it began with."""
    encoder: Annotated[Path | None, Question("prior")] = None
    """Folder of a model whose hidden states are compared for `embeddings`, relative to the study file; the pool's seed
    when left out."""
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
        if self.encoder and "embeddings" not in (self.prior, *self.start):
            raise ValueError("encoder does nothing: put 'embeddings' into start, or set prior = 'embeddings'")
        return self

    @property
    def strategy_found(self) -> Strategy:
        """The strategy by its name."""
        return find_strategy(self.strategy)
