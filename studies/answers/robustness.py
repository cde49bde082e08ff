"""The verb `robustness`: whether the best mixture stays ahead on noisy text, in other case, and out of domain.

Perturbed text has other tokens, so losses are in bits per byte of each text's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import optuna

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
from studies.answers.score import Json, Score, paired_json, rank_correlation
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

BEST = "best"
SEED = "seed"
PLAIN = "plain"
ELSEWHERE = "out-of-domain"


@dataclass(frozen=True)
class Condition:
    """Scores of all contenders on one kind of text; `different` names equal mixtures once."""

    scores: Mapping[str, Score]
    different: tuple[str, ...]

    @property
    def table(self) -> WindowTable:
        return self.scores[BEST].table

    @property
    def order(self) -> list[str]:
        """The different contenders, lowest bits per byte first."""
        return sorted(self.different, key=lambda name: self.scores[name].value)

    @cached_property
    def behind(self) -> Mapping[str, PairedDifference]:
        """Bits per byte by which each baseline is worse than the best mixture."""
        best = self.scores[BEST]
        return {name: score.behind(best) for name, score in self.scores.items() if name != BEST}

    def rises(self, plain: Condition) -> dict[str, float]:
        """Return the rise in bits per byte over plain text, by contender."""
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
    """The contenders on plain text, perturbed text and other domains.

    contenders: None for the seed
    noise: share of characters edited
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
        conditions |= {kind: self._perturbed_json(condition) for kind, condition in self.perturbed.items()}
        return {
            "study": self.study,
            "mixture": best.as_dict(),
            "noise": self.noise,
            "noise_seed": self.noise_seed,
            "conditions": conditions,
            "out_of_domain": self._compared_json(self.elsewhere) if self.elsewhere else {},
        }

    def _perturbed_json(self, condition: Condition) -> Json:
        return {**self._compared_json(condition), "rises": condition.rises(self.plain)}

    def _compared_json(self, condition: Condition) -> Json:
        return {
            **condition.as_json(),
            "spearman_with_plain": condition.spearman(self.plain),
            "same_order_as_plain": condition.order == self.plain.order,
        }


def run_robustness(bench: Workbench, study: optuna.Study, *, noise: float, seed: int) -> Robustness:
    """Score every contender under every condition, by one merge each.

    Raises `StudyError` without a value yet, `NonFiniteLossError`, and `ValueError` for `noise` outside [0, 1].
    """
    best = best_mixture(bench, study)
    contenders: dict[str, Mixture | None] = {BEST: best, **baseline_mixtures(bench), SEED: None}
    judged = _judged(bench, noise, seed)
    nats = _nats(bench, contenders, {condition: table for condition, (_, table) in judged.items()})
    different = _different(contenders)
    conditions = {
        condition: Condition({name: Score(goal, table, nats[name][condition]) for name in contenders}, different)
        for condition, (goal, table) in judged.items()
    }
    return Robustness(
        bench.config.name,
        contenders,
        noise,
        seed,
        plain=conditions[PLAIN],
        perturbed={kind: conditions[kind] for kind in PERTURBATIONS},
        elsewhere=conditions.get(ELSEWHERE),
    )


def _judged(bench: Workbench, noise: float, seed: int) -> dict[str, tuple[Goal, WindowTable]]:
    # penalties and references hold for plain text and its measure only
    goal = bench.goals["test"].plain("bits-per-byte")
    windows = bench.pool.corpus.held_out["test"]
    tokenizer = load_tokenizer(bench.pool.folder / "tokenizer")

    def rewritten(name: str, kind: Kind) -> HeldOutWindows:
        rng = np.random.default_rng([seed, *name.encode()])  # a domain's noise is the same whatever the goal's others
        return rewritten_windows(name, windows[name], tokenizer, partial(perturbed, kind=kind, noise=noise, rng=rng))

    judged = {PLAIN: (goal, WindowTable.of(windows, goal.domains))}
    for kind in PERTURBATIONS:
        judged[kind] = (goal, WindowTable.of({name: rewritten(name, kind) for name in goal.domains}, goal.domains))
    others = [name for name in windows if name not in bench.goals["test"].domains]
    if others:
        macro = Goal.over(others, "macro", measure="bits-per-byte")
        judged[ELSEWHERE] = (macro, WindowTable.of(windows, others))
    return judged


def _nats(
    bench: Workbench, contenders: Mapping[str, Mixture | None], tables: Mapping[str, WindowTable]
) -> dict[str, dict[str, Floats]]:
    """Return the nats (W,) by contender and condition."""
    model, precision = bench.stacked.model, bench.proxy.precision
    scorers = {condition: Scorer(model, table, precision=precision) for condition, table in tables.items()}
    nats: dict[str, dict[str, Floats]] = {}
    for name, mixture in contenders.items():
        bench.make_resident(mixture)
        nats[name] = {condition: scorer.score() for condition, scorer in scorers.items()}
        bad = [condition for condition, values in nats[name].items() if not np.isfinite(values).all()]
        if bad:
            raise NonFiniteLossError(f"the loss of {name} is not finite under condition {bad[0]!r}")
    return nats


def _different(contenders: Mapping[str, Mixture | None]) -> tuple[str, ...]:
    digests = [mixture.digest if mixture else SEED for mixture in contenders.values()]
    return tuple(name for at, name in enumerate(contenders) if digests[at] not in digests[:at])
