"""The answers of `fidelity` and `predict` for people, with differences beside the noise."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from objectives.agreement.rule_choice import LEAST_TO_CHOOSE, RuleChoice
from objectives.agreement.statistics import NoiseFloor
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from studies.answers.tables import weights_in_words
from studies.assessment.fidelity.fidelity import Agreed, Fidelity
from studies.assessment.fidelity.forecast import Forecast, Forecaster
from studies.assessment.fidelity.priors import show_judged
from studies.assessment.fidelity.readings import VALUE
from studies.assessment.fidelity.report import FidelityReport
from studies.terminal import digits, plain_table

RANKS = ("pearson", "spearman", "kendall", "decision_accuracy", "accuracy_beyond_noise", "top_k_overlap")
DIFFERENCES = ("regret_at_1", "rmse", "low_tail_rmse", "bias")
MOST_WEIGHTS = 3
"""Weights of a mixture that are named, the largest first."""


def show_fidelity(console: Console, report: FidelityReport) -> None:
    fidelity = report.fidelity
    test = fidelity.by_split["test"]
    console.print(
        f"Fidelity of study {fidelity.study}: {len(fidelity.mixtures)} mixtures, test split, "
        f"{fidelity.measure.replace('-', ' ')}; ground truths {fidelity.truths.source}"
    )
    if fidelity.truths.ignored:
        console.print(f"Not used, for they are no held-out domain of the pool: {', '.join(fidelity.truths.ignored)}")
    _show_mixtures(console, fidelity, test)
    console.print(_noise_line(test))
    _show_agreement(console, test)
    _show_domains(console, test)
    _show_rules(console, fidelity.rules, fidelity.by_split["search"].noise.get(VALUE))
    if any(one.truths for one in report.priors):
        console.print(
            "Before any training, search split: how text ranks the mixtures (regret: of the one ranked first)"
        )
        show_judged(console, report.priors)
    _show_proposal(console, report)
    console.print(f"picture: {report.picture or 'none, as ROOT/reports is read-only; see --output'}", soft_wrap=True)


def _show_mixtures(console: Console, fidelity: Fidelity, agreed: Agreed) -> None:
    table = plain_table("mixture", "largest weights", "merged (proxy)", "really trained", "proxy less truth", left=2)
    rows = zip(fidelity.mixtures.items(), agreed.proxy[VALUE], agreed.truth[VALUE], strict=True)
    for (name, mixture), proxy, truth in sorted(rows, key=lambda row: float(row[2])):
        table.add_row(name, _largest(mixture), f"{proxy:.4f}", f"{truth:.4f}", f"{proxy - truth:+.4f}")
    console.print(table)


def _noise_line(agreed: Agreed) -> str:
    floor = agreed.noise.get(VALUE)
    if floor is None:
        return "Noise floor: not measured; `--repeats 2` trains some mixtures again in another order of the data."
    return (
        f"Noise floor: trained again in another order, a loss differs by {floor.deviation:.4f} (95 % interval "
        f"{floor.low:.4f} to {floor.high:.4f}, {floor.freedom} degrees of freedom). Differences between mixtures below "
        f"{floor.margin:.4f} are chance; no proxy could reach a Pearson above {agreed.ceiling:.3f} here."
    )


def _show_agreement(console: Console, agreed: Agreed) -> None:
    console.print("Agreement of proxy and truth (in brackets: 95 % bootstrap interval over mixtures)")
    table = Table("figure", "value", "beside the noise floor")
    floor, agreement = agreed.noise.get(VALUE), agreed.agreement[VALUE]
    for name in (one for one in (*RANKS, *DIFFERENCES) if one in agreement):
        interval = agreement[name]
        table.add_row(name.replace("_", " "), str(interval), _of_statistic(name, interval.value, floor))
    console.print(table)


def _of_statistic(name: str, value: float, floor: NoiseFloor | None) -> str:
    if name not in DIFFERENCES:
        return ""
    if floor and name.endswith("rmse"):
        return f"noise alone would give {floor.deviation:.4f}"
    return _beside(abs(value), floor, alone=name == "bias")


def _show_domains(console: Console, agreed: Agreed) -> None:
    console.print("By held-out domain")
    headings = ("domain", "pearson", "spearman", "decision accuracy", "regret at 1", "bias", "noise floor")
    table = plain_table(*headings)
    for name, agreement in agreed.agreement.items():
        if name == VALUE:
            continue
        figures = [digits(agreement[one].value, ".2f") for one in ("pearson", "spearman", "decision_accuracy")]
        differences = [digits(agreement[one].value, "+.4f") for one in ("regret_at_1", "bias")]
        floor = agreed.noise.get(name)
        table.add_row(name, *figures, *differences, f"{floor.margin:.4f}" if floor else "not measured")
    console.print(table)


def _show_rules(console: Console, choice: RuleChoice, floor: NoiseFloor | None) -> None:
    console.print("Merge rules, search split (criterion: leave-one-out error near the optimum plus expected regret)")
    table = plain_table("rule", "spearman", "bias", "error", "regret", "criterion", "less the study's own", "wins")
    for score in choice.scores:
        interval = score.behind
        value, low, high = (digits(one, "+.4f") for one in (interval.value, interval.low, interval.high))
        behind = f"{value} ({low} to {high})"
        figures = (score.bias, score.weighted_error, score.expected_regret, score.criterion.value)
        cells = (digits(score.spearman, ".3f"), *(digits(one, ".4f") for one in figures))
        table.add_row(score.name, *cells, "its own" if score.name == choice.own else behind, f"{score.wins:.0%}")
    console.print(table)
    first = choice.scores[0]
    beside = "" if first.name == choice.own else f" {_beside(abs(first.behind.value), floor).capitalize()}."
    console.print(f"{rule_verdict(choice)}{beside}")


def rule_verdict(choice: RuleChoice) -> str:
    first = choice.scores[0]
    if choice.told_apart:
        return (
            f"Recommended: {choice.recommended}, better here than the study's {choice.own}, beyond chance. "
            "Its best mixture may lie elsewhere: search a study by that rule, and compare what `confirm` trains."
        )
    if first.name == choice.own:
        return f"Recommended: {choice.own}, the study's own; no other rule does better."
    why = f"not beyond chance: one of {len(choice.scores)} rules does best by luck, too"
    if choice.truths < LEAST_TO_CHOOSE:
        why = f"{choice.truths} truths are too few to change the rule by, it takes {LEAST_TO_CHOOSE}"
    return f"Recommended: {choice.own}, the study's own. {first.name} does better, but {why}."


def _show_proposal(console: Console, report: FidelityReport) -> None:
    proposal = report.proposal
    console.print(
        f"Lowest prediction: {_largest(proposal.mixture)} ({proposal.new_merges} new merges), "
        f"beside the study's best, {_largest(proposal.best_mixture)}"
    )
    table = Table("split", "mixture", "merged (proxy)", "predicted if trained (90 %)")
    for split in SPLITS:
        table.add_row(split, "proposal", *_forecast(proposal.forecasts[split]))
        table.add_row("", "best", *_forecast(proposal.best[split]))
    console.print(table)
    _show_rules_behind(console, report.forecaster)
    for split in SPLITS:
        console.print(_ahead(report, split))


def _ahead(report: FidelityReport, split: Split) -> str:
    proposal, trained = report.proposal, report.trained(split)
    if proposal.mixture.digest == proposal.best_mixture.digest:
        return f"{split}: the study's best mixture is the proposal."
    verdict = "" if proposal.told_apart(split) else ", so they cannot be told apart"
    line = (
        f"{split}: the proposal is predicted to be ahead by {proposal.ahead(split):+.4f}; two predictions err by "
        f"{proposal.margins[split]:.4f}{verdict}."
    )
    if trained is None:
        return line
    gained = trained[1] - trained[0]
    beside = _beside(abs(gained), report.fidelity.by_split[split].noise.get(VALUE))
    return (
        f"{line} Really trained: proposal {trained[0]:.4f}, best {trained[1]:.4f}, ahead by {gained:+.4f} ({beside})."
    )


def show_forecast(
    console: Console, mixture: Mixture, forecaster: Forecaster, forecasts: Mapping[Split, Forecast]
) -> None:
    """Show a mixture's predicted value, and the truths behind it."""
    study, measure = forecaster.instruments.study.name, forecaster.instruments.target.measure
    console.print(f"Prediction for study {study}: {_largest(mixture)} ({measure.replace('-', ' ')})", soft_wrap=True)
    table = Table("split", "merged (proxy)", "predicted if trained (90 %)")
    for split, one in forecasts.items():
        table.add_row(split, *_forecast(one))
    console.print(table)
    _show_rules_behind(console, forecaster)


def _forecast(one: Forecast) -> tuple[str, str]:
    found = one.predicted
    return f"{one.proxy:.4f}", f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _show_rules_behind(console: Console, forecaster: Forecaster) -> None:
    """Name the merge rules behind predictions, the truths, and the error of truths left out."""
    for split, average in forecaster.averages.items():
        console.print(
            f"{split}: predicted from merges by {forecaster.rules_behind(split)}, as {len(average.truth)} truths weigh "
            f"them; a truth left out is predicted within {average.rmse(0):.4f} (root mean square).",
            soft_wrap=True,
        )


def _beside(difference: float, floor: NoiseFloor | None, *, alone: bool = False) -> str:
    """Compare with the noise of two truths or, `alone`, of a truth and a merge."""
    if floor is None:
        return "noise not measured"
    margin = floor.margin_of_one if alone else floor.margin
    return f"{'above' if difference > margin else 'within'} the noise of {margin:.4f}"


def _largest(mixture: Mixture) -> str:
    return weights_in_words(mixture, most=MOST_WEIGHTS)
