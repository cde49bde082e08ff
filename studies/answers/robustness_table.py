"""The answer of `robustness` for people: tables, and in words where the best mixture is not ahead."""

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from objectives.scoring.paired import PairedDifference
from studies.answers.robustness import BEST, Condition, Robustness


def show_robustness(console: Console, answer: Robustness) -> None:
    """Show bits per byte on plain, perturbed and other text, then nats per token, each with its verdicts."""
    plain = answer.plain
    console.print(
        f"Robustness of study {answer.study}, test split (character noise {answer.noise:g}, seed {answer.noise_seed})"
    )
    console.print(f"Bits per byte of its own bytes (in brackets: rise over plain text); {_paired(plain)}")
    rows = [("plain", plain, dict.fromkeys(plain.scores, 0.0))]
    rows += [(_words(kind), condition, condition.rises(plain)) for kind, condition in answer.perturbed.items()]
    _show_rows(
        console, "text", plain, [(name, _bits(one, None if one is plain else rises)) for name, one, rises in rows]
    )
    for name, condition, _ in rows:
        _show_verdict(console, name, condition, plain)
    console.print("Nats per token: the rows are of other tokens, so compare within a row only")
    _show_rows(console, "text", plain, [(f"{name}, {_tokens(one)}", _nats(one)) for name, one, _ in rows])
    _show_elsewhere(console, answer)


def _show_elsewhere(console: Console, answer: Robustness) -> None:
    elsewhere = answer.elsewhere
    if elsewhere is None:
        console.print("Out of domain: nothing to show, the study's goal uses every held-out domain of the pool.")
        return
    console.print(f"Out of domain, bits per byte of domains that the goal does not use; {_paired(elsewhere)}")
    rows = [("their mean (macro)", _bits(elsewhere, None))]
    for domain in elsewhere.table.domains:
        losses = {name: score.domains[domain] for name, score in elsewhere.scores.items()}
        rows.append((domain, {name: f"{loss.bits_per_byte:.4f}" for name, loss in losses.items()}))
    _show_rows(console, "domain", elsewhere, rows)
    _show_verdict(console, "out of domain", elsewhere, answer.plain)


def _show_rows(
    console: Console, heading: str, condition: Condition, rows: Iterable[tuple[str, Mapping[str, str]]]
) -> None:
    table = Table()
    table.add_column(heading)
    for name in condition.scores:
        table.add_column(_words(name), justify="right")
    for name, cells in rows:
        table.add_row(name, *cells.values())
    console.print(table)


def _bits(condition: Condition, rises: Mapping[str, float] | None) -> dict[str, str]:
    shown = {name: f"{score.value:.4f}" for name, score in condition.scores.items()}
    return {name: f"{cell} ({rises[name]:+.4f})" for name, cell in shown.items()} if rises else shown


def _nats(condition: Condition) -> dict[str, str]:
    return {name: f"{score.loss_nats:.4f}" for name, score in condition.scores.items()}


def _tokens(condition: Condition) -> str:
    return f"{int(condition.table.tokens.sum()):,} tokens"


def _show_verdict(console: Console, name: str, condition: Condition, plain: Condition) -> None:
    for line in _standing(condition.behind):
        console.print(f"{name}: {line}.")
    if condition is not plain:
        console.print(f"{name}: {_ranking(condition, plain)}.")


def _standing(behind: Mapping[str, PairedDifference]) -> Iterator[str]:
    """Say which baselines the best mixture is ahead of, behind, and not to be told apart from (95 %, paired)."""
    told = {name: paired.difference for name, paired in behind.items() if paired.told_apart}
    ahead = [_words(name) for name, difference in told.items() if difference > 0]
    behind_it = [f"{_words(name)} (by {-difference:.4f})" for name, difference in told.items() if difference < 0]
    if ahead:
        yield f"the best mixture is ahead of {', '.join(ahead)}, beyond chance"
    if behind_it:
        yield f"the best mixture is BEHIND {', '.join(behind_it)}, beyond chance"
    for name, paired in behind.items():
        if name not in told:
            yield f"best mixture and {_words(name)}: {paired}"


def _ranking(condition: Condition, plain: Condition) -> str:
    spearman = condition.spearman(plain)
    shown = "not defined" if spearman is None else f"{spearman:.2f}"
    over = f"(Spearman {shown} over {len(condition.different)} different contenders)"
    if condition.order == plain.order:
        return f"the order is that on plain text {over}"
    return f"the order is NOT that on plain text {over}; from best to worst: {', '.join(map(_words, condition.order))}"


def _paired(condition: Condition) -> str:
    documents = next(iter(condition.behind.values())).documents
    return f"differences paired over {documents} documents, 95 %"


def _words(name: str) -> str:
    return "best mixture" if name == BEST else name.replace("_", " ").replace("-", " ")
