"""The answer of `robustness` for people, with words where the best mixture is behind."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from objectives.scoring.paired import PairedDifference
from studies.answers.robustness import BEST, Condition, Robustness
from studies.terminal import plain_table


def show_robustness(console: Console, answer: Robustness) -> None:
    """Show bits per byte with verdicts, then nats per token."""
    plain = answer.plain
    console.print(
        f"Robustness of study {answer.study}, test split (character noise {answer.noise:g}, seed {answer.noise_seed})"
    )
    console.print(f"Bits per byte of its own bytes (in brackets: rise over plain text); {_paired(plain)}")
    texts = {"plain": plain} | {_words(kind): condition for kind, condition in answer.perturbed.items()}
    _show_rows(console, "text", plain, {name: _bits(one, plain) for name, one in texts.items()})
    for name, condition in texts.items():
        _show_verdict(console, name, condition, plain)
    console.print("Nats per token: the rows are of other tokens, so compare within a row only")
    nats = {
        f"{name}, {int(one.table.tokens.sum()):,} tokens": [f"{score.loss_nats:.4f}" for score in one.scores.values()]
        for name, one in texts.items()
    }
    _show_rows(console, "text", plain, nats)
    _show_elsewhere(console, answer)


def _show_elsewhere(console: Console, answer: Robustness) -> None:
    elsewhere = answer.elsewhere
    if elsewhere is None:
        console.print("Out of domain: nothing to show, the study's goal uses every held-out domain of the pool.")
        return
    console.print(f"Out of domain, bits per byte of domains that the goal does not use; {_paired(elsewhere)}")
    scores = list(elsewhere.scores.values())
    rows = {"their mean (macro)": [f"{score.value:.4f}" for score in scores]}
    for domain in elsewhere.table.domains:
        rows[domain] = [f"{score.domains[domain].bits_per_byte:.4f}" for score in scores]
    _show_rows(console, "domain", elsewhere, rows)
    _show_verdict(console, "out of domain", elsewhere, answer.plain)


def _show_rows(console: Console, heading: str, condition: Condition, rows: Mapping[str, Sequence[str]]) -> None:
    table = plain_table(heading, *map(_words, condition.scores))
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def _bits(condition: Condition, plain: Condition) -> list[str]:
    values = {name: f"{score.value:.4f}" for name, score in condition.scores.items()}
    if condition is plain:
        return list(values.values())
    rises = condition.rises(plain)
    return [f"{shown} ({rises[name]:+.4f})" for name, shown in values.items()]


def _show_verdict(console: Console, name: str, condition: Condition, plain: Condition) -> None:
    for line in _standing(condition.behind):
        console.print(f"{name}: {line}.")
    if condition is not plain:
        console.print(f"{name}: {_ranking(condition, plain)}.")


def _standing(behind: Mapping[str, PairedDifference]) -> Iterator[str]:
    """Say where the best mixture is ahead, behind or not told apart."""
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
