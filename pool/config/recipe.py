"""The shape of a model, and the recipe of a training run: of the seed, of members, of ground truths."""

from enum import Enum, auto
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pool.engines.resources import Resources
from pool.errors import ConfigError
from pool.files.digests import digest_json
from pool.files.toml import Config


class StopEarly(Config):
    """Stop when the loss on the partition's own held-out text no longer falls; keep the best checkpoint."""

    every_steps: int = Field(20, ge=1)
    """Optimiser steps between two evaluations on the partition's own held-out text (its search split, never the test
    split), and between two checkpoints."""
    patience: int = Field(3, ge=1)
    """Evaluations in a row without a new lowest loss before training stops."""


class SeedPenalty(Config):
    """Pull members back to the seed during training, against forgetting."""

    kind: Literal["l2", "ewc"] = "l2"
    """`l2`: every parameter alike; `ewc`: each by its diagonal Fisher information on the seed's text (Kirkpatrick et
    al. 2017)."""
    strength: float = Field(gt=0)
    """The loss in nats grows by strength / 2 times the (weighted) squared distance from the seed. With `ewc`, strength
    1 weighs the estimated rise of the loss on the seed's text like the loss on the member's own text."""
    fisher_windows: int = Field(128, ge=1)
    """Windows of the seed's training text for the one measurement of the Fisher information."""


class Lora(Config):
    """Train low-rank adapters and merge them into full weights at the end (needs `mixscout[lora]`)."""

    rank: int = Field(8, ge=1)
    """Rank of each update."""
    alpha: int = Field(16, ge=1)
    """An update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the adapted linear layers, or the one word `all-linear` for all but the output head."""


class OptionMark(Enum):
    """A property of a recipe's option, written in the annotation of its field."""

    WITHOUT_EFFECT = auto()
    """The option does not change the trained parameters: no digest holds it, and it may change at any time."""
    YOUNGER = auto()
    """Pools were built before the option came: digests hold it only where it is set, so that those pools stay valid."""
    MEMBERS_ONLY = auto()
    """The option needs a seed, or concerns runs side by side: [seed.recipe] refuses it."""


Family = Literal["llama", "gpt2", "qwen2", "olmo2"]


class ModelShape(Config):
    """A small decoder, built from a transformers configuration."""

    family: Family = "llama"
    """Architecture: `gpt2` has learned positions and biases, `qwen2` biases in attention only, `olmo2` norms after its
    sublayers. None uses dropout."""
    hidden_size: int = Field(128, ge=8)
    """Width of the residual stream; a multiple of `attention_heads`."""
    layers: int = Field(3, ge=1)
    """Number of decoder layers."""
    attention_heads: int = Field(4, ge=1)
    """Number of attention heads (and of key/value heads)."""
    intermediate_size: int = Field(384, ge=8)
    """Width of the feed-forward layer."""
    context: int = Field(128, ge=8)
    """Window length in tokens, in training and in scoring."""
    tie_embeddings: bool = True
    """Use one matrix for the input embedding and the output head."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden_size % (2 * self.attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of twice attention_heads ({self.attention_heads})"
            )
        return self

    def parameters(self, vocabulary: int) -> int:
        """Estimate the number of parameters, to about a tenth."""
        embeddings = vocabulary * self.hidden_size * (1 if self.tie_embeddings else 2)
        matrices = 2 if self.family == "gpt2" else 3
        layer = 4 * self.hidden_size**2 + matrices * self.hidden_size * self.intermediate_size
        return embeddings + self.layers * layer

    @property
    def digest_parts(self) -> dict[str, object]:
        """Parts of the model's digest; digests of the first family are older than the key and lack it."""
        return self.model_dump(exclude={"family"} if self.family == "llama" else None)


class GivenShape(Config):
    """A model trained elsewhere: its class in transformers, and the window length used here."""

    architecture: str
    context: int

    @property
    def digest_parts(self) -> dict[str, object]:
        """Parts of the model's digest; the digest of its weights covers the rest."""
        return self.model_dump()


Shape = ModelShape | GivenShape


class Recipe(Config):
    """One training run: tokens, batch, optimiser (AdamW) and schedule."""

    tokens: int = Field(160_000, ge=1)
    """Training tokens; rounded down to whole batches, at least one."""
    batch_windows: int = Field(16, ge=1)
    """Windows per optimiser step; a step reads batch_windows x context tokens."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Learning-rate schedule after the warm-up; `linear` ends at zero, `cosine` at a tenth of the peak."""
    warmup_share: float = Field(0.0, ge=0, lt=1)
    """Share of the steps spent warming up."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    decayed: Annotated[Literal["all", "not-norms", "matrices"], OptionMark.YOUNGER] = "not-norms"
    """Parameters under weight decay: `all`; `not-norms`, all but norms and biases (Trainer's own grouping); `matrices`,
    all but norms, biases, embeddings and the output head."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest gradient norm; larger gradients are scaled down."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Arithmetic of the forward and backward pass; parameters stay float32. `tf32` rounds factors of products to ten
    bits on a GPU, and is float32 on a CPU. On a GPU `bfloat16` is the fastest."""
    compiled: Annotated[bool, OptionMark.YOUNGER] = False
    """Compile the model and its loss (torch.compile; needs a C++ compiler): a minute at the start, then faster on a
    GPU. Sums are in another order."""
    accumulate: Annotated[int, OptionMark.YOUNGER] = Field(1, ge=1)
    """Parts of a batch, summed one after the other: less memory, the same steps. Divides batch_windows."""
    gradient_checkpointing: Annotated[bool, OptionMark.WITHOUT_EFFECT] = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time;
    does not change the result."""
    device_map: Annotated[Literal["auto"] | None, OptionMark.WITHOUT_EFFECT] = None
    """`auto` spreads the layers evenly over all visible GPUs, for a model too large for one; does not change the
    result. A study's [objective] devices does the same for merging and scoring."""
    fsdp: Annotated[int | None, OptionMark.WITHOUT_EFFECT] = Field(None, ge=2)
    """Shards of parameters, gradients and optimizer state (PyTorch's fully sharded data parallel), for a model too
    large for one GPU. Each shard has its own GPU, or its own process without GPUs, and trains a part of each batch.
    Divides batch_windows / accumulate. Changes only the order of sums in the result."""
    num_cpus: Annotated[float | None, OptionMark.WITHOUT_EFFECT, OptionMark.MEMBERS_ONLY] = Field(None, ge=0)
    """CPUs of each run when several train side by side (`--workers`, `--engine ray`): a node's CPUs on Ray, threads in
    processes. `--num-cpus` wins; does not change the result (members only)."""
    num_gpus: Annotated[float | None, OptionMark.WITHOUT_EFFECT, OptionMark.MEMBERS_ONLY] = Field(None, ge=0)
    """GPUs of each such run: several for a `device_map` or `fsdp`, 0.5 for two runs on one GPU, 0 for none; by default
    one if there are any. `--num-gpus` wins; does not change the result (members only)."""
    continue_optimizer: Annotated[bool, OptionMark.YOUNGER, OptionMark.MEMBERS_ONLY] = False
    """Begin with AdamW's moments from the end of the seed's training (members only)."""
    replay_share: Annotated[float, OptionMark.YOUNGER, OptionMark.MEMBERS_ONLY] = Field(0.0, ge=0, lt=1)
    """Share of windows drawn from the seed's mixture instead, against forgetting (members only)."""
    window_offset: Annotated[bool, OptionMark.YOUNGER] = False
    """Shift the windows of each later pass over a partition by a new amount below one window, so that a small partition
    is not read in the same pieces again."""
    early_stopping: Annotated[StopEarly | None, OptionMark.YOUNGER] = None
    """Stop when held-out loss no longer falls."""
    seed_penalty: Annotated[SeedPenalty | None, OptionMark.YOUNGER, OptionMark.MEMBERS_ONLY] = None
    """Stay near the seed (members only)."""
    frozen_embeddings: Annotated[bool, OptionMark.YOUNGER, OptionMark.MEMBERS_ONLY] = False
    """Keep the embedding and the output head as the seed's, and train the rest: no gradients and moments for them, a
    fifth of the parameters of a model of 135M with 49,152 tokens (members only)."""
    lora: Annotated[Lora | None, OptionMark.YOUNGER, OptionMark.MEMBERS_ONLY] = None
    """Train low-rank adapters (members only)."""
    keep_every_steps: Annotated[int | None, OptionMark.WITHOUT_EFFECT, OptionMark.MEMBERS_ONLY] = Field(None, ge=1)
    """Keep a copy of each member after every so many optimiser steps, for `mixscout ages` and [objective] member_age.
    Does not change the member (members only)."""
    order_seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the order in which windows are read."""
    checkpoint_steps: Annotated[int, OptionMark.WITHOUT_EFFECT] = Field(100, ge=1)
    """Steps between checkpoints, where a killed run goes on (the last two are kept); does not change the result."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_windows % self.accumulate:
            raise ValueError(
                f"accumulate {self.accumulate} must divide batch_windows ({self.batch_windows}): a batch is cut into "
                "so many equal parts"
            )
        self._check_fsdp()
        placed = [name for name in ("fsdp", "device_map", "lora") if self.compiled and getattr(self, name)]
        if placed:
            raise ValueError(f"compiled is for a whole model on one device: take out {placed[0]}, or compiled")
        unfit = [name for name in ("continue_optimizer", "seed_penalty") if self.lora and getattr(self, name)]
        if unfit:
            raise ValueError(
                f"{unfit[0]} is about all parameters, and [recipe.lora] trains adapters instead: keep one of the two"
            )
        unfit = [name for name in ("lora", "fsdp", "continue_optimizer", "seed_penalty") if getattr(self, name)]
        if self.frozen_embeddings and unfit:
            raise ValueError(
                f"frozen_embeddings is for a plain run of all other parameters, and {unfit[0]} is not: keep one of the "
                "two"
            )
        try:
            _ = self.resources
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def _check_fsdp(self) -> None:
        if self.fsdp is None:
            return
        if self.device_map or self.lora:
            other = "device_map" if self.device_map else "lora"
            raise ValueError(f"fsdp and {other} cannot both be: keep one of the two (adapters go with device_map)")
        if self.batch_windows // self.accumulate % self.fsdp:
            raise ValueError(
                f"fsdp {self.fsdp} must divide batch_windows / accumulate ({self.batch_windows // self.accumulate}): "
                "each process trains an equal part"
            )
        if self.num_gpus and self.num_gpus < self.fsdp:
            raise ValueError(f"fsdp {self.fsdp} takes a GPU a process: num_gpus {self.num_gpus:g} is too few")

    @property
    def resources(self) -> Resources:
        return Resources(self.num_cpus, self.num_gpus)

    @property
    def batch_of_a_process(self) -> int:
        """Windows of each batch for one process: all of them without `fsdp`."""
        return self.batch_windows // (self.fsdp or 1)

    def steps(self, context: int) -> int:
        """Optimiser steps of this run at a window length of `context` tokens, at least one."""
        return max(1, self.tokens // (self.batch_windows * context))

    def windows(self, context: int) -> int:
        return self.steps(context) * self.batch_windows

    @property
    def reads_seed_text(self) -> bool:
        return self.replay_share > 0 or (self.seed_penalty is not None and self.seed_penalty.kind == "ewc")

    @property
    def digest(self) -> str:
        return digest_json(self.digest_parts)

    @property
    def digest_parts(self) -> dict[str, object]:
        """Options with an effect on the result, in JSON types; younger ones only where set."""
        younger = {*Recipe.marked(OptionMark.YOUNGER)} - {*self._set(OptionMark.YOUNGER)}
        return self.model_dump(mode="json", exclude={*Recipe.marked(OptionMark.WITHOUT_EFFECT), *younger})

    def _set(self, mark: OptionMark) -> list[str]:
        return [name for name in Recipe.marked(mark) if getattr(self, name) != Recipe.model_fields[name].default]


class SeedRecipe(Recipe):
    """The seed's training run: the same recipe with other defaults."""

    tokens: int = Field(1_200_000, ge=1)
    """Training tokens; rounded down to whole batches, at least one."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate of AdamW."""
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps spent warming up."""

    @model_validator(mode="after")
    def _check_members_only(self) -> Self:
        asked = self._set(OptionMark.MEMBERS_ONLY)
        if asked:
            raise ValueError(
                f"{asked[0]} is for members, not for the seed, which comes first and alone: move it to [recipe]"
            )
        return self


class Distillation(Config):
    """How `mixscout distill` teaches a smaller student the best mixture; the rest is the members' recipe."""

    teacher: Literal["merged", "trained"] = "merged"
    """The teacher: the merge of the best mixture, or the model really trained on it, which is trained first if need
    be."""
    temperature: float = Field(2.0, gt=0)
    """Divides the logits of both before they are compared: above 1, unlikely tokens count for more."""
    hard_share: float = Field(0.5, ge=0, lt=1)
    """Share of the usual loss, on the text's own tokens; the rest is on the teacher's probabilities."""
    start: Literal["layers", "scratch"] = "layers"
    """The student's first parameters: `layers` of the teacher, evenly spread from first to last, with its embeddings
    and head; or random ones."""
    orders: int = Field(3, ge=2)
    """Orders of the data, each with a student with and one without a teacher; the interval is over them."""
    tokens: int | None = Field(None, ge=1)
    """Training tokens of each student; those of a member when left out."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of each student; that of a member when left out."""
