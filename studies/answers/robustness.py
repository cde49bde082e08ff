"""The verb `robustness`: whether the best mixture stays ahead on noisy text, in other case, and out of domain.

Perturbed text has other tokens, so each text is scored in bits per byte of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import optuna
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from objectives.held_out import Floats
from objectives.scoring.paired import PairedDifference
from objectives.scoring.perturbation import PERTURBATIONS, Kind, perturbed, rewritten_windows
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture
from pool.tokens.held_out import HeldOutWindows
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import baseline_mixtures
from studies.answers.score import Json, Score, paired_by_domain, paired_json, rank_correlation
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import ROBUSTNESS, best_mixture
from studies.terminal import plain_table

BEST = "best"
SEED = "seed"
PLAIN = "plain"
ELSEWHERE = "out-of-domain"


@dataclass(frozen=True)
class Condition:
    """Scores of all contenders on one kind of text, in bits per byte; `different` names equal mixtures once."""

    scores: Mapping[str, Score]
    different: tuple[str, ...]

    @property
    def table(self) -> WindowTable:
        return self.scores[BEST].table

    @property
    def order(self) -> list[str]:
        """The different contenders, from best to worst."""
        return sorted(self.different, key=lambda name: self.scores[name].value)

    @cached_property
    def behind(self) -> Mapping[str, PairedDifference]:
        """The value of every other contender less the best mixture's."""
        best = self.scores[BEST]
        return {name: score.behind(best) for name, score in self.scores.items() if name != BEST}

    def rises(self, plain: Condition) -> dict[str, float]:
        """Return the rise in bits per byte over plain text."""
        return {name: score.value - plain.scores[name].value for name, score in self.scores.items()}

    def spearman(self, plain: Condition) -> float | None:
        """Return the rank correlation with plain text; None where undefined."""
        here, there = ([one.scores[name].value for name in self.different] for one in (self, plain))
        return rank_correlation(here, there)

    def as_json(self) -> Json:
        return {
            "tokens": int(self.table.tokens.sum()),
            "bytes": int(self.table.bytes.sum()),
            "documents": len(np.unique(self.table.document)),
            "order": self.order,
            "contenders": {name: score.as_json() for name, score in self.scores.items()},
            "behind": {name: paired_json(paired) for name, paired in self.behind.items()},
        }


@dataclass(frozen=True)
class Robustness:
    """The contenders (None for the seed) on plain, perturbed and other text.

    elsewhere: None where the goal uses every held-out domain
    """

    study: str
    contenders: Mapping[str, Mixture | None]
    noise: float
    noise_seed: int
    plain: Condition
    perturbed: Mapping[Kind, Condition]
    elsewhere: Condition | None

    def as_json(self) -> Json:
        best = self.contenders[BEST]
        assert best is not None
        conditions: dict[str, Json] = {PLAIN: self.plain.as_json()}
        for kind, condition in self.perturbed.items():
            conditions[kind] = {**self._compared_json(condition), "rises": condition.rises(self.plain)}
        return {
            "study": self.study,
            "mixture": best.as_dict(),
            "noise": self.noise,
            "noise_seed": self.noise_seed,
            "conditions": conditions,
            "out_of_domain": self._compared_json(self.elsewhere) if self.elsewhere else {},
        }

    def _compared_json(self, condition: Condition) -> Json:
        return {
            **condition.as_json(),
            "spearman_with_plain": condition.spearman(self.plain),
            "same_order_as_plain": condition.order == self.plain.order,
        }


def run_robustness(bench: Workbench, study: optuna.Study, *, noise: float, seed: int) -> Robustness:
    """Score every contender under every condition, by one merge each, and record the differences in the study.

    Raises `StudyError`, `NonFiniteLossError`, and `ValueError` for `noise` outside [0, 1].
    """
    best = best_mixture(bench, study)
    contenders: dict[str, Mixture | None] = {
        BEST: best,
        **baseline_mixtures(bench),
        SEED: None,
    }
    tokenizer = load_tokenizer(bench.proxy.pool.folder / "tokenizer")
    judged = _judged(bench.goals["test"], bench.proxy.pool.corpus.held_out["test"], tokenizer, noise=noise, seed=seed)
    model, precision = bench.proxy.stacked.model, bench.proxy.settings.precision
    scorers = {condition: Scorer(model, table, precision=precision) for condition, (_, table) in judged.items()}
    nats = _nats(bench.proxy.make_resident, contenders, scorers)
    different = _different(contenders)
    conditions = {
        condition: Condition({name: Score(goal, table, nats[name][condition]) for name in contenders}, different)
        for condition, (goal, table) in judged.items()
    }
    answer = Robustness(
        bench.config.name,
        contenders,
        noise,
        seed,
        plain=conditions[PLAIN],
        perturbed={kind: conditions[kind] for kind in PERTURBATIONS},
        elsewhere=conditions.get(ELSEWHERE),
    )
    study.set_user_attr(ROBUSTNESS, {"mixture": best.as_dict(), **_record(bench, answer)})
    return answer


def _record(bench: Workbench, answer: Robustness) -> Json:
    """Return what a report shows: differences by kind of text, and by other domain in the goal's measure."""
    conditions = {PLAIN: answer.plain} | {str(kind): found for kind, found in answer.perturbed.items()}
    by_condition = {
        kind: {name: paired_json(one) for name, one in found.behind.items()} for kind, found in conditions.items()
    }
    if answer.elsewhere is None:
        return {"by_condition": by_condition, "by_domain": {}}
    windows, measure = bench.proxy.pool.corpus.held_out["test"], bench.goals["test"].measure
    nats = {name: score.table.by_domain(score.nats) for name, score in answer.elsewhere.scores.items()}
    behind = {name: paired_by_domain(windows, measure, nats[name], nats[BEST]) for name in answer.elsewhere.behind}
    domains = answer.elsewhere.table.domains
    by_domain = {domain: {name: paired_json(one[domain]) for name, one in behind.items()} for domain in domains}
    return {"by_condition": by_condition, "by_domain": by_domain}


def _judged(
    of_study: Goal,
    windows: Mapping[str, HeldOutWindows],
    tokenizer: PreTrainedTokenizerFast,
    *,
    noise: float,
    seed: int,
) -> dict[str, tuple[Goal, WindowTable]]:
    goal = of_study.plain("bits-per-byte")  # penalties and references hold for plain text and its measure only

    def rewritten(name: str, kind: Kind) -> HeldOutWindows:
        rng = np.random.default_rng([seed, *name.encode()])  # a domain's noise is the same whatever the goal's others
        return rewritten_windows(name, windows[name], tokenizer, partial(perturbed, kind=kind, noise=noise, rng=rng))

    judged = {PLAIN: (goal, WindowTable.of(windows, goal.domains))}
    for kind in PERTURBATIONS:
        judged[kind] = (goal, WindowTable.of({name: rewritten(name, kind) for name in goal.domains}, goal.domains))
    others = [name for name in windows if name not in of_study.domains]
    if others:
        macro = Goal.over(others, "macro", measure="bits-per-byte")
        judged[ELSEWHERE] = (macro, WindowTable.of(windows, others))
    return judged


def _nats(
    make_resident: Callable[[Mixture | None], None],
    contenders: Mapping[str, Mixture | None],
    scorers: Mapping[str, Scorer],
) -> dict[str, dict[str, Floats]]:
    """Return nats (W,) by contender and condition."""
    nats: dict[str, dict[str, Floats]] = {}
    for name, mixture in contenders.items():
        make_resident(mixture)
        nats[name] = {condition: scorer.score() for condition, scorer in scorers.items()}
        bad = [condition for condition, values in nats[name].items() if not np.isfinite(values).all()]
        if bad:
            raise NonFiniteLossError(f"the loss of {name} is not finite under condition {bad[0]!r}")
    return nats


def _different(contenders: Mapping[str, Mixture | None]) -> tuple[str, ...]:
    digests = [mixture.digest if mixture else SEED for mixture in contenders.values()]
    return tuple(name for at, name in enumerate(contenders) if digests[at] not in digests[:at])


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
