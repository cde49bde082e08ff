"""A pool for people: its parts, its overlap, and its check with the verdict last."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pool.checkpoints.manifest import CheckpointManifest
from pool.corpus.overlap import WORDS, Overlap
from pool.files.digests import short
from pool.parts.store import PoolManifest
from pool.tokens.blank_tokens import listed
from pool.tokens.prepared import TextSummary
from studies.assessment.pool_check.verdict import PoolVerdict
from studies.terminal import plain_table

if TYPE_CHECKING:
    from studies.assessment.pool_check.check import PoolCheck

MOST_PAIRS = 30
"""Pairs shown, the highest barriers first; JSON and pictures have all."""


def show_pool(console: Console, manifest: PoolManifest) -> None:
    console.print(f"Pool {manifest.name}")
    table = _whole_names("partition", "documents", "tokens", "bytes", "text", "available", "member", "training\nloss")
    for name, part in manifest.corpus.partitions.items():
        member = manifest.members[name]
        loss = "imported" if member.final_loss_nats is None else f"{member.final_loss_nats:.3f}"
        table.add_row(name, *_counts(part), f"{part.available_tokens:,}", short(member.weights_digest), loss)
    console.print(table)
    console.print("Held-out domains (search and test split)")
    split = ("docu-\nments", "tokens", "bytes", "text")
    table = _whole_names("domain", *split, *split)
    for name, domain in manifest.corpus.search.items():
        table.add_row(name, *_counts(domain), *_counts(manifest.corpus.test[name]))
    console.print(table)
    console.print(
        f"seed {short(manifest.seed.weights_digest)}, {_seed_origin(manifest.seed)}; "
        f"tokenizer {short(manifest.corpus.tokenizer_digest)}; pool {short(manifest.digest)}"
    )


def _seed_origin(seed: CheckpointManifest) -> str:
    if seed.imported is None:
        return f"trained on {seed.tokens:,} tokens"
    if seed.imported.hub:
        return f"taken from {seed.imported.hub} at {short(seed.imported.commit or '')}"
    return f"taken from a checkpoint ({short(seed.imported.weights_digest)})"


def _whole_names(*headings: str) -> Table:
    """A table that folds long names instead of cutting them."""
    table = Table()
    for heading in headings:
        left = heading in ("partition", "domain", "text", "member")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    return table


def _counts(part: TextSummary) -> tuple[str, str, str, str]:
    return f"{part.documents:,}", f"{part.tokens:,}", f"{part.bytes:,}", short(part.digest)


def show_overlap(console: Console, overlap: Overlap) -> None:
    console.print(f"Held-out documents with a run of {WORDS} words that also stands in training text")
    table = Table("held-out domain", "documents")
    table.add_column("share of them, by partition", ratio=1)
    for domain, checked in overlap.checked.items():
        shares = {name: row[domain] / checked for name, row in overlap.shared.items() if row[domain]}
        shown = [f"{name} {shares[name]:.1%}" for name in sorted(shares, key=lambda name: -shares[name])]
        table.add_row(domain, f"{checked:,}", ", ".join(shown) or "none")
    console.print(table)
    table = Table("partition", "training documents", "with such a run")
    for name, documents in overlap.documents.items():
        table.add_row(name, f"{documents:,}", f"{overlap.training[name]:,}")
    console.print(table)
    too_short = sum(overlap.too_short.values())
    if too_short:
        console.print(f"{too_short:,} held-out documents have fewer than {WORDS} words and cannot be checked.")
    console.print("drop_overlap = true under [corpus] leaves such training documents out.")


def show_pool_check(console: Console, check: PoolCheck, verdict: PoolVerdict) -> None:
    count = len(check.domains)
    console.print(f"Pool {check.pool}: loss in nats per token, {check.split} split, mean of {count} domains")
    _show_members(console, check)
    if check.pairs:
        _show_pairs(console, check)
    if check.unknown_shares:
        console.print(f"Text unknown to the tokenizer, share of tokens: {listed(check.unknown_shares)}", soft_wrap=True)
    for line in (verdict.words, *(f"- {reason}" for reason in verdict.reasons)):
        console.print(line)


def _show_members(console: Console, check: PoolCheck) -> None:
    headings = (
        "mean loss",
        "own domain",
        "than the seed",
        "seed text",
        "task vector",
        "of the seed",
        "barrier to mean",
    )
    table = plain_table("model", *headings)
    for row, name in enumerate(check.names):
        losses, domain = check.members[name], check.own_domains.get(name, "")
        own = losses.by_domain.get(domain, math.nan)
        table.add_row(
            name,
            _number(losses.mean, ".4f"),
            _number(own, ".4f"),
            _number(own - check.seed.by_domain.get(domain, math.nan), "+.4f"),
            _number(check.forgotten_nats[name], "+.4f"),
            f"{check.vectors.norms[row]:#.4g}",
            f"{check.vectors.relative_norms[row]:#.3g}",
            _number(check.barriers_to_mean.get(name), "+.4f"),
        )
    table.add_section()
    table.add_row("(seed)", _number(check.seed.mean, ".4f"), "", "", "", f"{check.vectors.seed_norm:.3f}", "1.000", "")
    table.add_row("(uniform merge)", _number(check.uniform.mean, ".4f"), *[""] * 6)
    console.print(table)


def _show_pairs(console: Console, check: PoolCheck) -> None:
    cosines = check.of_pairs(check.vectors.cosines)
    conflicts = check.of_pairs(check.vectors.sign_conflicts)
    ranked = sorted(check.pairs, key=lambda pair: (-check.barriers.get(pair, -math.inf), cosines[pair]))
    some = f", the {MOST_PAIRS} highest barriers of {len(ranked)}" if len(ranked) > MOST_PAIRS else ""
    line = "half-way" if check.points == 1 else f"over {check.points} points of the line"
    console.print(f"Pairs of members{some} (barrier: {line}, negative is good)")
    table = plain_table("pair", "cosine", "sign conflicts", "barrier, nats")
    for pair in ranked[:MOST_PAIRS]:
        barrier = _number(check.barriers.get(pair), "+.4f")
        shared = _number(100 * conflicts[pair], ".1f", " %")
        table.add_row(" / ".join(pair), _number(cosines[pair], "+.3f"), shared, barrier)
    console.print(table)


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{form}}{unit}"
