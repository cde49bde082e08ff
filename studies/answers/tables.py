"""Answers for people: plain tables on stdout, with the unfavourable said as plainly as the favourable."""

from collections.abc import Collection, Mapping

from rich.console import Console
from rich.table import Table

from objectives.scoring.diversity import Diversity
from pool.checkpoints.manifest import CheckpointManifest
from pool.corpus.corpus import SPLITS
from pool.files.digests import short
from pool.mixture import Mixture
from pool.parts.store import PoolManifest
from pool.tokens.prepared import TextSummary
from search.trials import Counts
from studies.answers.best import Best, Standing
from studies.answers.confirm import Confirmation

Columns = Mapping[str, Mapping[str, float]]
"""Loss by column and then by contender."""


def show_pool(console: Console, manifest: PoolManifest) -> None:
    """Show a pool: partitions with their members, held-out domains, digests."""
    console.print(f"Pool {manifest.name}")
    table = _whole_names("partition", "documents", "tokens", "bytes", "text", "available", "member", "training\nloss")
    for name, part in manifest.corpus.partitions.items():
        member = manifest.members[name]
        table.add_row(
            name,
            *_counts(part),
            f"{part.available_tokens:,}",
            short(member.weights_digest),
            "imported" if member.final_loss_nats is None else f"{member.final_loss_nats:.3f}",
        )
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
    """A table whose names go on in a new line where they do not fit: half a name is no name."""
    table = Table()
    for heading in headings:
        left = heading in ("partition", "domain", "text", "member")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    return table


def _counts(part: TextSummary) -> tuple[str, str, str, str]:
    return f"{part.documents:,}", f"{part.tokens:,}", f"{part.bytes:,}", short(part.digest)


def show_counts(console: Console, counts: Counts) -> None:
    """Say where the proposals went, and how often the gate was wrong."""
    console.print(
        f"merges {counts.merges} (of which {counts.cached} remembered, {counts.failed} failed), "
        f"pruned {counts.pruned}, audited {counts.audited}, forced {counts.forced}"
    )
    if counts.stopped_early:
        console.print(f"stopped early {counts.stopped_early}; {counts.tokens_read:,} held-out tokens read in all")
    console.print(f"false-prune rate, measured on the audits: {counts.false_prune_rate()}")


def show_best(console: Console, best: Best, confirmation: Confirmation | None = None) -> None:
    """Show the best mixture, then it and the baselines on every split, and where it is not ahead."""
    assert best.best.mixture is not None
    console.print(f"Best mixture of study {best.study}")
    show_weights(console, best.best.mixture)
    columns = _columns(best, confirmation)
    feasible = ["best mixture", *(name for name, standing in best.baselines.items() if standing.feasible)]
    measure = best.best.search.goal.measure.replace("-", " ")
    console.print(f"Held-out loss, {measure} (in brackets: how far the best mixture is ahead)")
    _show_columns(console, columns, feasible)
    for column, losses in columns.items():
        console.print(_verdict(column, losses))
    _show_paired(console, best)
    _show_downstream(console, best)
    _show_constraints(console, best.best)
    _show_front(console, best)
    if confirmation and confirmation.spearman is not None:
        console.print(
            f"Spearman of merged and trained test loss over {len(confirmation.different)} mixtures: "
            f"{confirmation.spearman:.2f} (too few to judge the proxy by)"
        )
    show_counts(console, best.counts)


def show_weights(console: Console, mixture: Mixture) -> None:
    """Show the weights of a mixture, the largest first."""
    table = Table()
    table.add_column("partition")
    table.add_column("weight", justify="right")
    for name, weight in sorted(mixture.as_dict().items(), key=lambda item: -item[1]):
        table.add_row(name, f"{weight:.4f}" if weight > 0 else "0")
    console.print(table)


def _columns(best: Best, confirmation: Confirmation | None) -> Columns:
    standings = {"best mixture": best.best, **best.baselines}
    columns = {
        "search, merged": {name: standing.search.value for name, standing in standings.items()},
        "test, merged": {name: standing.test.value for name, standing in standings.items()},
    }
    if confirmation:
        trained = {name: one.trained.value for name, one in confirmation.by_name().items()}
        trained["best mixture"] = trained.pop("best")
        columns["test, really trained"] = trained
    return columns


def _show_columns(console: Console, columns: Columns, feasible: Collection[str]) -> None:
    table = Table()
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name in columns["search, merged"]:
        shown = name.replace("_", " ") + ("" if name in feasible else " *")
        table.add_row(shown, *(_cell(losses, name) for losses in columns.values()))
    console.print(table)
    if set(columns["search, merged"]) - set(feasible):
        console.print("* outside the study's space: caps or max_members do not allow it.")
    if "test, really trained" in columns:
        console.print("The seed is scored as it is: no further training, so it has no trained figure.")


def _show_paired(console: Console, best: Best) -> None:
    """Say which baselines can't be told apart from the best mixture on the same documents."""
    for split in SPLITS:
        unclear = {
            name: standing.behind[split]
            for name, standing in best.baselines.items()
            if not standing.behind[split].told_apart
        }
        if not unclear:
            documents = next(iter(best.baselines.values())).behind[split].documents
            console.print(f"{split}: every difference is beyond chance (95 %, paired over {documents} documents).")
        for name, paired in unclear.items():
            console.print(f"{split}: best mixture and {name.replace('_', ' ')}: {paired}.")


def _show_downstream(console: Console, best: Best) -> None:
    if best.best.downstream is None:
        return
    errors = {name: standing.downstream for name, standing in best.baselines.items() if standing.downstream is not None}
    shown = ", ".join(f"{name.replace('_', ' ')} {error:.4f}" for name, error in errors.items())
    console.print(f"Error on the downstream tasks, which the study minimises: {best.best.downstream:.4f} ({shown})")


def show_diversity(console: Console, found: Mapping[str, Diversity]) -> None:
    """Show self-BLEU and distinct-2 of every contender."""
    one = next(iter(found.values()))
    console.print(
        f"Diversity of {one.samples} sampled texts of {one.tokens // one.samples} tokens (test split's beginnings)"
    )
    table = Table()
    for heading in ("", "self-BLEU (lower is more diverse)", "distinct-2 (higher is more diverse)"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, diversity in found.items():
        table.add_row(name.replace("_", " "), f"{diversity.self_bleu:.2f}", f"{diversity.distinct_2:.3f}")
    console.print(table)


def _show_constraints(console: Console, standing: Standing) -> None:
    for split in SPLITS:
        for name, violation in standing.on(split).violations.items():
            kept = "kept" if violation <= 0 else "BROKEN"
            side = "above" if violation > 0 else "below"
            console.print(f"{split}: constraint on {name} {kept}: {abs(violation):.4f} {side} its ceiling.")


def _show_front(console: Console, best: Best) -> None:
    if not best.front:
        return
    console.print("Pareto front: no evaluated mixture is better in every objective (search split; test in brackets)")
    table = Table()
    for name in best.front[0].search:
        table.add_column(name, justify="right")
    table.add_column("mixture")
    for point in best.front:
        values = [f"{value:.4f} ({point.test[name]:.4f})" for name, value in point.search.items()]
        used = sorted(point.mixture.as_dict().items(), key=lambda item: -item[1])
        table.add_row(*values, ", ".join(f"{name} {weight:.2f}" for name, weight in used if weight >= 0.005))
    console.print(table)
    console.print("The best mixture above is the one with the lowest mean of the objectives.")


def _cell(losses: Mapping[str, float], name: str) -> str:
    if name not in losses:
        return "-"
    ahead = losses[name] - losses["best mixture"]
    return f"{losses[name]:.4f}" + ("" if name == "best mixture" else f" ({ahead:+.4f})")


def _verdict(column: str, losses: Mapping[str, float]) -> str:
    best = losses["best mixture"]
    ahead_of_it = {name: best - loss for name, loss in losses.items() if name != "best mixture" and loss <= best}
    if not ahead_of_it:
        return f"{column}: the best mixture is ahead of every baseline."
    parts = [f"{name.replace('_', ' ')} (by {behind:.4f})" for name, behind in ahead_of_it.items()]
    return f"{column}: the best mixture is NOT ahead of {', '.join(parts)}."


def show_confirmation(console: Console, confirmation: Confirmation) -> None:
    """Show proxy and really trained test loss of every confirmed mixture."""
    console.print(f"Confirmation of study {confirmation.study}, test split")
    table = Table()
    for heading in ("mixture", "merged (proxy)", "really trained", "standard error"):
        table.add_column(heading, justify="left" if heading == "mixture" else "right")
    for one in confirmation.confirmed:
        error = f"{one.trained.standard_error:.4f}"
        table.add_row(one.name.replace("_", " "), f"{one.proxy.value:.4f}", f"{one.trained.value:.4f}", error)
    console.print(table)
    shown = "not defined" if confirmation.spearman is None else f"{confirmation.spearman:.2f}"
    console.print(f"Spearman of merged and trained test loss: {shown} over {len(confirmation.different)} mixtures")
