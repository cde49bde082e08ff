"""The answers of `best`, `confirm` and `search` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from objectives.held_out import CONFIDENT
from objectives.target import Goal
from pool.corpus.corpus import SPLITS
from pool.mixture import Mixture
from search.trials import Counts, best_trial, completed_trials, signed, signs_of, value_of
from studies.answers.ages import Ages
from studies.answers.best import Best, Standing
from studies.answers.score import FrontPoint, Json, negated_in
from studies.opened.opened_study import OpenedStudy
from studies.terminal import digits, plain_table

if TYPE_CHECKING:
    from objectives.scoring.diversity import Diversity
    from studies.answers.confirm import Confirmation
    from studies.answers.goal_predictor import ScalesAnswer

Columns = Mapping[str, Mapping[str, float]]
"""Loss by column and then by contender."""
BEST = "best mixture"
LEAST_SHOWN = 0.005


def show_counts(console: Console, counts: Counts) -> None:
    console.print(
        f"merges {counts.merges} (of which {counts.cached} remembered, {counts.failed} failed), "
        f"pruned {counts.pruned}, audited {counts.audited}, forced {counts.forced}"
    )
    for failure in counts.failures():
        console.print(failure, soft_wrap=True)
    if counts.stopped_early:
        in_full = counts.tokens_read + counts.tokens_unread
        console.print(
            f"stopped early {counts.stopped_early}; {counts.tokens_read:,} held-out tokens read of {in_full:,} in full "
            f"({counts.tokens_read / in_full:.0%})"
        )
    console.print(f"false-prune rate, measured on the audits: {counts.false_prune_rate()}")


def best_in_words(bench: OpenedStudy) -> str:
    """Name a study's best mixture and its value; say so where nothing was evaluated."""
    trial = best_trial(completed_trials(bench.known_study()))
    if trial is None:
        return "no mixture has a value yet"
    value = "" if bench.several else f", value {bench.target.shown(value_of(trial)):.4f}"
    return f"best mixture: {weights_in_words(bench.space.mixture_of(trial))}{value}"


def best_json(bench: OpenedStudy) -> Json:
    """Return a study's best mixture, its value by objective, and its trial's number; nulls where nothing was evaluated.

    `value` is one number, or null for several objectives.
    """
    study = bench.known_study()
    trial = best_trial(completed_trials(study))
    if trial is None:
        return {"mixture": None, "value": None, "by_objective": {}, "trial": None}
    values = signed(signs_of(study), trial.values)
    return {
        "mixture": bench.space.mixture_of(trial).as_dict(),
        "value": None if bench.several else values[0],
        "by_objective": dict(zip(bench.config.targets, values, strict=True)) if bench.several else {},
        "trial": trial.number,
    }


def show_weights(console: Console, mixture: Mixture) -> None:
    table = plain_table("partition", "weight")
    for name, weight in sorted(mixture.as_dict().items(), key=lambda item: -item[1]):
        table.add_row(name, f"{weight:.4f}" if weight > 0 else "0")
    console.print(table)


def show_scales(console: Console, found: ScalesAnswer) -> None:
    """Show what every scale tells of the target, and the mixture to train there next."""
    chosen = f"; {found.source} has the least error and predicts" if len(found.scales) > 1 else ""
    console.print(
        f"What the scales tell of {found.target}: its {found.runs} runs, each predicted from the others and from one "
        f"scale{chosen}"
    )
    table = plain_table("scale", "runs", "Spearman", "RMSE", "inside 90 %")
    for name, one in found.scales.items():
        accuracy = one.out_of_fold
        spearman = "-" if accuracy.spearman is None else f"{accuracy.spearman:.3f}"
        table.add_row(name, str(one.runs), spearman, f"{accuracy.rmse:.4f}", f"{accuracy.inside:.0%}")
    console.print(table)
    console.print("Rank correlation of scales over the mixtures trained at both, with 95 % intervals from eight on")
    table = plain_table("scales", "mixtures", "Spearman")
    for agreement in found.agreements:
        table.add_row(" and ".join(agreement.scales), str(agreement.shared), agreement.in_words)
    console.print(table)
    console.print(next_run_in_words(found))


def next_run_in_words(found: ScalesAnswer) -> str:
    """Name the mixture to train next at the target, and its worth."""
    after = found.next_run
    if after is None:
        return f"Next run at {found.target}: every candidate has one."
    half = (after.predicted.high - after.predicted.low) / 2
    return (
        f"Next run at {found.target}: {weights_in_words(after.mixture)}; predicted {after.predicted.value:.4f} "
        f"± {half:.4f}, better than the best run there with probability {after.chance:.2f}, and by "
        f"{after.expected:.4f} on average (no gain counted as 0)."
    )


def weights_in_words(mixture: Mixture, *, most: int | None = None) -> str:
    """List the largest weights, at most `most`, without those near zero."""
    used = sorted(mixture.as_dict().items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{name} {weight:.2f}" for name, weight in used if weight >= LEAST_SHOWN)


def show_front(console: Console, front: Sequence[FrontPoint], meaning: str, goal: Goal) -> None:
    if not front:
        return
    console.print(f"Pareto front: {meaning}")
    table = plain_table(*front[0].by_objective, left=0)
    table.add_column("mixture")
    for point in front:
        tests = {name: f" ({value:.4f})" for name, value in point.test.items()}
        values = (f"{value:.4f}{tests.get(name, '')}" for name, value in point.by_objective.items())
        table.add_row(*values, weights_in_words(point.mixture))
    console.print(table)
    negated = f", with {negated_in(goal)} negated" if goal.two_ways else ""
    best = "highest" if goal.direction == "maximise" else "lowest"
    console.print(f"The best mixture above is the one with the {best} mean of the objectives{negated}.")


def show_best(console: Console, best: Best, confirmation: Confirmation | None = None) -> None:
    for doubt in best.doubts:
        console.print(doubt, soft_wrap=True)
    by = ", by the trainings and merges of `mixscout refine`" if best.refined else ""
    console.print(f"Best mixture of study {best.study}{by}", soft_wrap=True)
    show_weights(console, best.mixture)
    columns = _columns(best, confirmation)
    measure = best.best.scores["search"].goal.measure.replace("-", " ")
    console.print(f"Held-out loss, {measure} (in brackets: how far the best mixture is ahead)")
    _show_columns(console, columns, [name for name, one in best.baselines.items() if not one.feasible])
    for column, losses in columns.items():
        console.print(_verdict(column, losses))
    _show_paired(console, best.baselines)
    if best.best.downstream is not None:
        errors = {name: one.downstream for name, one in best.baselines.items() if one.downstream is not None}
        shown = ", ".join(f"{_words(name)} {error:.4f}" for name, error in errors.items())
        console.print(f"Error on the downstream tasks, which the study minimises: {best.best.downstream:.4f} ({shown})")
    _show_constraints(console, best.best)
    meaning = "no evaluated mixture is better in every objective (search split; test in brackets)"
    show_front(console, best.front, meaning, best.best.scores["search"].goal)
    if confirmation and confirmation.spearman is not None:
        console.print(
            f"Spearman of merged and trained test loss over {len(confirmation.different)} mixtures: "
            f"{confirmation.spearman:.2f} (too few to judge the proxy by)"
        )
    show_counts(console, best.counts)


def _columns(best: Best, confirmation: Confirmation | None) -> Columns:
    standings = {BEST: best.best, **best.baselines}
    columns = {
        f"{split}, merged": {name: standing.scores[split].value for name, standing in standings.items()}
        for split in SPLITS
    }
    if confirmation:
        trained = {BEST if one.name == "best" else one.name: one.trained.value for one in confirmation.confirmed}
        columns["test, really trained"] = trained
    return columns


def _show_columns(console: Console, columns: Columns, infeasible: Sequence[str]) -> None:
    table = plain_table("", *columns)
    for name in columns["search, merged"]:
        shown = _words(name) + (" *" if name in infeasible else "")
        table.add_row(shown, *(_cell(losses, name) for losses in columns.values()))
    console.print(table)
    if infeasible:
        console.print("* outside the study's space: caps or max_members do not allow it.")
    if "test, really trained" in columns:
        console.print("The seed is scored as it is: no further training, so it has no trained figure.")


def _cell(losses: Mapping[str, float], name: str) -> str:
    if name not in losses:
        return "-"
    ahead = losses[name] - losses[BEST]
    return f"{losses[name]:.4f}" + ("" if name == BEST else f" ({ahead:+.4f})")


def _verdict(column: str, losses: Mapping[str, float]) -> str:
    best = losses[BEST]
    ahead_of_it = {name: best - loss for name, loss in losses.items() if name != BEST and loss <= best}
    if not ahead_of_it:
        return f"{column}: the best mixture is ahead of every baseline."
    parts = [f"{_words(name)} (by {behind:.4f})" for name, behind in ahead_of_it.items()]
    return f"{column}: the best mixture is NOT ahead of {', '.join(parts)}."


def _show_paired(console: Console, baselines: Mapping[str, Standing]) -> None:
    for split in SPLITS:
        differences = {name: standing.behind[split] for name, standing in baselines.items()}
        unclear = {name: paired for name, paired in differences.items() if not paired.told_apart}
        if not unclear:
            documents = next(iter(differences.values())).documents
            console.print(f"{split}: every difference is beyond chance (95 %, paired over {documents} documents).")
        for name, paired in unclear.items():
            console.print(f"{split}: best mixture and {_words(name)}: {paired}.")


def _show_constraints(console: Console, best: Standing) -> None:
    for split in SPLITS:
        for name, violation in best.scores[split].violations.items():
            kept, side = ("BROKEN", "above") if violation > 0 else ("kept", "below")
            console.print(f"{split}: constraint on {name} {kept}: {abs(violation):.4f} {side} its ceiling.")


def show_ages(console: Console, found: Ages) -> None:
    """Show the best mixture at every age, its regret by the members' end, and the verdict last."""
    console.print(f"The best mixture of study {found.study} by the age of its members, the end last")
    headings = (
        "step",
        "tokens",
        "value, search",
        "best at the end is worse by",
        "worse at the end, search",
        "and test",
    )
    table = plain_table(*headings, "distance", "Spearman", left=0)
    for age in found.ages:
        at_end = (f"{one.difference:+.4f} ± {CONFIDENT * one.standard_error:.4f}" for one in age.regret_at_end.values())
        worse = at_end if age is not found.end else ("-", "-")
        figures = (f"{age.value:.4f}", f"{age.regret:.4f}", *worse, f"{age.distance:.3f}", digits(age.spearman, ".2f"))
        table.add_row(f"{age.steps:,}", f"{age.tokens:,}", *figures)
    console.print(table)
    console.print(f"Weights of the best mixture by step; partitions below {LEAST_SHOWN} throughout are left out")
    table = plain_table("partition", *(f"{age.steps:,}" for age in found.ages))
    for name in used_partitions(found):
        table.add_row(name, *(f"{age.weights[name]:.2f}" for age in found.ages))
    console.print(table)
    if found.left_out:
        console.print(f"Left out, as not all members were kept then: {', '.join(map(str, found.left_out))}.")
    if found.schedule != "constant":
        console.print(f"Before its end an age is a model whose learning rate has not fallen yet ({found.schedule}).")
    console.print(found.verdict, soft_wrap=True)


def used_partitions(found: Ages) -> list[str]:
    """Name the partitions with a weight worth showing at some age, the heaviest at the end first."""
    most = {name: max(age.weights[name] for age in found.ages) for name in found.end.weights}
    used = (name for name, weight in most.items() if weight >= LEAST_SHOWN)
    return sorted(used, key=lambda name: -found.end.weights[name])


def show_diversity(console: Console, found: Mapping[str, Diversity]) -> None:
    one = next(iter(found.values()))
    console.print(
        f"Diversity of {one.samples} sampled texts of {one.tokens // one.samples} tokens (test split's beginnings)"
    )
    table = plain_table("", "self-BLEU (lower is more diverse)", "distinct-2 (higher is more diverse)")
    for name, diversity in found.items():
        table.add_row(_words(name), f"{diversity.self_bleu:.2f}", f"{diversity.distinct_2:.3f}")
    console.print(table)


def show_confirmation(console: Console, confirmation: Confirmation) -> None:
    console.print(f"Confirmation of study {confirmation.study}, test split")
    table = plain_table("mixture", "merged (proxy)", "really trained", "standard error")
    for one in confirmation.confirmed:
        figures = (one.proxy.value, one.trained.value, one.trained.standard_error)
        table.add_row(_words(one.name), *(f"{figure:.4f}" for figure in figures))
    console.print(table)
    shown = "not defined" if confirmation.spearman is None else f"{confirmation.spearman:.2f}"
    console.print(f"Spearman of merged and trained test loss: {shown} over {len(confirmation.different)} mixtures")


def _words(name: str) -> str:
    return name.replace("_", " ")
