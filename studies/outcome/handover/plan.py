"""The plan of a training run: weight, tokens and epochs of every partition."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from pool.errors import StudyError
from pool.mixture import Mixture, apportion
from pool.parts.store import Pool
from studies.answers.score import Json
from studies.terminal import plain_table


@dataclass(frozen=True)
class Share:
    """One partition's part of a training run.

    weight: share of the run's tokens.
    tokens: that share in tokens.
    available_tokens: training tokens that the partition has.
    epochs: tokens / available_tokens.
    document_share: share of the run's documents; not `weight`, as documents differ in length.
    """

    weight: float
    tokens: int
    available_tokens: int
    epochs: float
    document_share: float


@dataclass(frozen=True)
class HandoverPlan:
    """A training run of `tokens` tokens, about `documents` documents, on a mixture."""

    study: str
    pool: str
    pool_digest: str
    tokens: int
    documents: int
    shares: Mapping[str, Share]

    @property
    def used(self) -> dict[str, Share]:
        """The partitions with a weight above zero."""
        return {name: share for name, share in self.shares.items() if share.weight > 0}

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "pool": self.pool,
            "pool_digest": self.pool_digest,
            "tokens": self.tokens,
            "documents": self.documents,
            "partitions": {name: dict(vars(share)) for name, share in self.shares.items()},
        }


def make_plan(study: str, pool: Pool, mixture: Mixture, tokens: int) -> HandoverPlan:
    """Spread `tokens` over the partitions, to the token. Raises `StudyError` when there is none to spread."""
    if tokens < 1:
        raise StudyError(f"--tokens {tokens}: a training run needs at least one token")
    weights = mixture.over(pool.names).as_dict()
    used = mixture.over(pool.names).support
    counts = apportion(np.array([weights[name] for name in used]), tokens)
    budgets = dict.fromkeys(weights, 0) | dict(zip(used, counts.tolist(), strict=True))
    manifest = pool.manifest.corpus.partitions
    drawn = {
        name: tokens * weight * manifest[name].documents / manifest[name].tokens for name, weight in weights.items()
    }
    total = math.fsum(drawn.values())
    shares = {
        name: Share(weight, budgets[name], pool.tokens[name], budgets[name] / pool.tokens[name], drawn[name] / total)
        for name, weight in weights.items()
    }
    return HandoverPlan(study, pool.config.name, pool.manifest.digest, tokens, max(1, round(total)), shares)


def show_plan(console: Console, plan: HandoverPlan) -> None:
    """Show weight, tokens and epochs of every partition used, and the repeated ones."""
    console.print(f"Training run of {plan.tokens:,} tokens on the best mixture of study {plan.study}")
    table = plain_table("partition", "weight", "tokens", "epochs", "share of documents")
    for name, share in sorted(plan.used.items(), key=lambda item: -item[1].weight):
        table.add_row(
            name, f"{share.weight:.4f}", f"{share.tokens:,}", f"{share.epochs:.2f}", f"{share.document_share:.4f}"
        )
    console.print(table)
    repeated = [name for name, share in plan.used.items() if share.epochs > 1]
    if repeated:
        console.print(f"repeated: {', '.join(repeated)}.")
        console.print("A merge cannot see repetition; [space] max_epochs rules it out beforehand.")
