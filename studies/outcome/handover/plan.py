"""What a training run is told: the weight, tokens and epochs of every partition, and where its text is.

A training plan for people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pool.corpus.files import paths_of
from pool.errors import StudyError
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.training.windows import apportion
from studies.answers.score import Json


@dataclass(frozen=True)
class Share:
    """One partition's part of a training run.

    `weight` is its share of the tokens, `tokens` that share of the run, `epochs` how often that goes through the
    `available_tokens` it has. `document_share` is its share of the documents: where documents of one partition are
    longer than those of another, drawing documents by `weight` would draw other shares of tokens.
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
        """Give the plan in JSON's types."""
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
    counts = apportion(np.array(list(weights.values())), tokens)
    budgets = dict(zip(weights, map(int, counts), strict=True))
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


def sources_of(pool: Pool, name: str, text_folder: Path | None) -> tuple[list[str], str, str]:
    """Return files, format and text column of a partition's text: handed over, or where the pool file has it.

    Raises `StudyError` where it has none of its own that a script could read.
    """
    if text_folder is not None:
        return [str(text_folder / f"{name}.jsonl")], "jsonl", "text"
    table = pool.config.corpus.partitions.get(name)
    if (
        table is None
        or table.is_split
        or table.hub is not None
        or table.format == "saved"
        or table.document != "paragraph"
    ):
        raise StudyError(f"the text of partition {name!r} has no plain files of its own: hand it over too, with --text")
    return [str(path) for path in paths_of(name, table)], table.format, table.text_column


def show_plan(console: Console, plan: HandoverPlan) -> None:
    """Show weight, tokens and epochs of every partition used, and which are repeated."""
    console.print(f"Training run of {plan.tokens:,} tokens on the best mixture of study {plan.study}")
    table = Table()
    for heading in ("partition", "weight", "tokens", "epochs", "share of documents"):
        table.add_column(heading, justify="left" if heading == "partition" else "right")
    for name, share in sorted(plan.used.items(), key=lambda item: -item[1].weight):
        table.add_row(
            name, f"{share.weight:.4f}", f"{share.tokens:,}", f"{share.epochs:.2f}", f"{share.document_share:.4f}"
        )
    console.print(table)
    repeated = [name for name, share in plan.used.items() if share.epochs > 1]
    if repeated:
        console.print(f"repeated: {', '.join(repeated)}.")
        console.print("A merge cannot see repetition; [space] max_epochs rules it out beforehand.")
