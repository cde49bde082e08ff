"""An ablation for people: contributions, interactions, and the stability of the ranking."""

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from objectives.held_out import CONFIDENT
from studies.answers.tables import weights_in_words
from studies.assessment.ablation.ablation import Ablation, FactorAblation
from studies.assessment.ablation.contributions import Contributions
from studies.terminal import plain_table

PAIRS_SHOWN = 3
HEADINGS = {
    "uniform-without": "out of uniform",
    "best-without": "out of best",
    "alone": "alone",
    "added-to-best": "added to best",
    "path-to-best": "on the way to best",
}


def show_ablation(console: Console, ablation: Ablation) -> None:
    """Show contributions to the goal and to every domain, interactions, stability, and the worst mixture."""
    measure = ablation.measure.replace("-", " ")
    console.print(f"Contributions in study {ablation.study}, {ablation.split} split, {measure}:")
    console.print("how much lower the loss is with a partition than without (a star: beyond chance, 95 %)")
    _show_goal(console, ablation)
    _show_domains(console, ablation)
    _show_interactions(console, ablation)
    _show_stability(console, ablation)
    _show_controls(console, ablation)
    console.print(f"{ablation.merged} mixtures were merged for this; what was known already was not.")


def show_factors(console: Console, found: FactorAblation) -> None:
    """Show the best mixture of every setting, each under every other, and a verdict for each factor."""
    measure = found.measure.replace("-", " ")
    console.print(f"Settings of study {found.study}: the best mixture under each, search split, {measure}")
    table = plain_table("", *found.factors, "value", "best mixture", left=1 + len(found.factors))
    for number, one in enumerate(found.outcomes, start=1):
        table.add_row(str(number), *one.setting.values.values(), f"{one.value:.4f}", weights_in_words(one.best, most=4))
    console.print(table)
    console.print("Two settings: rank correlation of mixtures, and how much worse is each best mixture under the other")
    table = plain_table("settings", "Spearman (95 % over mixtures)", "the first's, test split", "the second's", left=4)
    for pair in found.pairs:
        places = " and ".join(str(1 + place) for place in pair.settings)
        table.add_row(places, str(pair.spearman), *map(str, pair.regrets))
    console.print(table)
    for name in found.factors:
        console.print(found.verdict(name), soft_wrap=True)


def _show_goal(console: Console, ablation: Ablation) -> None:
    shapley = ablation.shapley
    console.print(f"To the goal. Shapley values of the {shapley.game} mixture: {shapley.method}")
    shown = {name: ablation.quantities[name] for name in HEADINGS if name in ablation.quantities}
    table = _by_partition("weight in best", "Shapley", "± 95 %", *(HEADINGS[name] for name in shown))
    weights = ablation.mixtures["best"].as_dict()
    for row in _order(ablation):
        cells = [_cell(found, row) for found in shown.values()]
        name, width = ablation.partitions[row], _number(shapley.half_widths[row, 0], "")
        table.add_row(name, f"{weights[name]:.3f}", _starred(ablation, row, 0, 4), width, *cells)
    console.print(table)


def _show_domains(console: Console, ablation: Ablation) -> None:
    console.print("Shapley values by held-out domain")
    table = _by_partition(*(str(number) for number in range(1, len(ablation.domains) + 1)))
    for row in _order(ablation):
        cells = (_starred(ablation, row, column, 2) for column in range(1, len(ablation.columns)))
        table.add_row(ablation.partitions[row], *cells)
    console.print(table)
    console.print("; ".join(f"{number} {name}" for number, name in enumerate(ablation.domains, 1)))


def _show_interactions(console: Console, ablation: Ablation) -> None:
    values, names = ablation.interactions.values, ablation.partitions
    pairs = [(float(values[i, j]), f"{names[i]} and {names[j]}") for i in range(len(names)) for j in range(i)]
    console.print(f"Pairs that do more together than each alone, to the goal ({ablation.interactions.kind}):")
    for value, pair in sorted(pairs, reverse=True)[:PAIRS_SHOWN]:
        console.print(f"  {value:+.4f} {pair}")
    console.print("and the pairs that do least:")
    for value, pair in sorted(pairs)[:PAIRS_SHOWN]:
        console.print(f"  {value:+.4f} {pair}")


def _show_stability(console: Console, ablation: Ablation) -> None:
    console.print("Does the ranking of the partitions hold? Spearman correlation with the ranking by Shapley values,")
    console.print(f"  on other documents of the same kind, to the goal: {ablation.shapley.stability[0]}")
    console.print("and of the ranking by leaving out of uniform, with that")
    for name, found in ablation.texts.items():
        console.print(f"  on {_where(name)}: {found}")


def _show_controls(console: Console, ablation: Ablation) -> None:
    table = plain_table("", *ablation.controls)
    for column, domain in enumerate(ablation.columns):
        table.add_row(domain, *(f"{row[column]:.4f}" for row in ablation.controls.values()))
    console.print("Losses, with the worst mixture found as a control")
    console.print(table)
    worst = sorted(ablation.mixtures["worst"].as_dict().items(), key=lambda item: -item[1])
    console.print("worst mixture: " + ", ".join(f"{name} {weight:.2f}" for name, weight in worst if weight > 0))


def _by_partition(*headings: str) -> Table:
    table = plain_table("partition", *headings)
    table.columns[0].no_wrap = True
    return table


def _order(ablation: Ablation) -> Iterator[int]:
    yield from np.argsort(-ablation.shapley.contributions.values[:, 0], kind="stable").tolist()


def _cell(found: Contributions, row: int) -> str:
    value, error = found.of(row, 0)
    beyond = error is not None and abs(value) > CONFIDENT * error
    return f"{_number(value, '+')}{'*' if beyond else ' '}"


def _starred(ablation: Ablation, row: int, column: int, decimals: int) -> str:
    value, _ = ablation.shapley.contributions.of(row, column)
    beyond = abs(value) > ablation.shapley.half_widths[row, column]
    return f"{value:+.{decimals}f}{'*' if beyond else ' '}"


def _number(value: float, sign: str) -> str:
    return f"{value:{sign}.4f}" if math.isfinite(value) else "-"


def _where(name: str) -> str:
    words = name.replace("-", " ")
    if name.endswith("-split"):
        return f"the {words}"
    return f"text in {words}" if name.endswith("-case") else f"text with {words}"
