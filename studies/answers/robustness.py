"""The verb `robustness`: whether the best mixture stays ahead on text that is noisy, in other case, or out of domain.

All of it is on the test split. Perturbed text has other tokens, so texts are compared in bits per byte of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import optuna
from scipy.stats import spearmanr

from objectives.held_out import Floats
from objectives.scoring.paired import PairedDifference, paired_difference
from objectives.scoring.perturbation import PERTURBATIONS, Kind, perturbed, rewritten_windows
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from objectives.target.aggregates import Aggregate
from objectives.target.target import Goal, Target
from objectives.target.targets import Targets
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture
from pool.tokens.held_out import HeldOutWindows
from pool.tokens.tokenizer import load_tokenizer
from studies.answers.best import baseline_mixtures
from studies.answers.score import Json, Score
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

BEST = "best"
SEED = "seed"
PLAIN = "plain"
ELSEWHERE = "out-of-domain"


@dataclass(frozen=True)
class Condition:
    """The scores of all contenders, by name, on one kind of text; `different` are those that are not equal mixtures."""

    scores: Mapping[str, Score]
    different: tuple[str, ...]

    @property
    def table(self) -> WindowTable:
        """The windows that all contenders were scored on."""
        return self.scores[BEST].table

    @property
    def order(self) -> list[str]:
        """The different contenders, the lowest bits per byte first."""
        return sorted(self.different, key=lambda name: self.scores[name].value)

    @cached_property
    def behind(self) -> Mapping[str, PairedDifference]:
        """By how many bits per byte each baseline is worse than the best mixture on the same documents."""
        best = self.scores[BEST]
        return {
            name: paired_difference(score.goal, score.table, score.nats, best.nats)
            for name, score in self.scores.items()
            if name != BEST
        }

    def rises(self, plain: Condition) -> dict[str, float]:
        """Return by how many bits per byte each contender is worse than on the plain text."""
        return {name: score.value - plain.scores[name].value for name, score in self.scores.items()}

    def spearman(self, plain: Condition) -> float | None:
        """Return the rank correlation with the plain text over different contenders; None where it is not defined."""
        here, there = ([one.scores[name].value for name in self.different] for one in (self, plain))
        if len(set(here)) < 2 or len(set(there)) < 2:
            return None
        return float(spearmanr(here, there).statistic)


@dataclass(frozen=True)
class Robustness:
    """What the contenders are worth on the goal's text as it is, on the same text perturbed, and on other domains.

    Contenders are the best mixture, the baselines and the seed (None, for it is no mixture). `noise` and `noise_seed`
    are those of the character noise. `elsewhere` is None where the goal uses every held-out domain of the pool.
    """

    study: str
    contenders: Mapping[str, Mixture | None]
    noise: float
    noise_seed: int
    plain: Condition
    perturbed: Mapping[Kind, Condition]
    elsewhere: Condition | None

    def as_json(self) -> Json:
        """Give the object that `robustness --json` prints."""
        best = self.contenders[BEST]
        assert best is not None
        conditions: dict[str, Json] = {PLAIN: _condition_json(self.plain)}
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
            **_condition_json(condition),
            "spearman_with_plain": condition.spearman(self.plain),
            "same_order_as_plain": condition.order == self.plain.order,
        }


def run_robustness(bench: Workbench, study: optuna.Study, *, noise: float, seed: int) -> Robustness:
    """Score the best mixture, the baselines and the seed under every condition: one merge a contender.

    Raises `StudyError` when no trial has a value yet, `NonFiniteLossError`, and `ValueError` when `noise` is not from
    0 to 1.
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
    perturbed_conditions = {kind: conditions[kind] for kind in PERTURBATIONS}
    return Robustness(
        bench.config.name, contenders, noise, seed, conditions[PLAIN], perturbed_conditions, conditions.get(ELSEWHERE)
    )


def in_bits_per_byte(goal: Goal) -> Goal:
    """Return a goal's aggregate alone: no penalties, and no references, which are of plain text and in its measure."""
    if isinstance(goal, Targets):
        return Targets({name: _aggregate_alone(target) for name, target in goal.by_name.items()})
    assert isinstance(goal, Target), "a goal is one target or several"
    return _aggregate_alone(goal)


def _judged(bench: Workbench, noise: float, seed: int) -> dict[str, tuple[Goal, WindowTable]]:
    """Return, by condition, what is judged and on which windows; the perturbed ones are of the goal's domains."""
    goal = in_bits_per_byte(bench.test_target)
    windows = bench.pool.corpus.held_out["test"]
    judged = {PLAIN: (goal, WindowTable.of(windows, goal.domains))}
    for kind in PERTURBATIONS:
        rewritten = {name: _perturbed_windows(bench, name, kind, noise, seed) for name in goal.domains}
        judged[kind] = (goal, WindowTable.of(rewritten, goal.domains))
    others = [name for name in windows if name not in bench.test_target.domains]
    if others:
        macro = Target.over(others, "macro", measure="bits-per-byte")
        judged[ELSEWHERE] = (macro, WindowTable.of(windows, others))
    return judged


def _aggregate_alone(target: Target) -> Target:
    aggregate: Aggregate = "worst" if target.aggregate == "worst-excess" else target.aggregate
    return Target(target.weights, aggregate, "bits-per-byte")


def _perturbed_windows(bench: Workbench, name: str, kind: Kind, noise: float, seed: int) -> HeldOutWindows:
    """Perturb the test split of a domain; its noise is its own, whatever other domains the goal has."""
    rng = np.random.default_rng([seed, *name.encode()])
    tokenizer = load_tokenizer(bench.pool.folder / "tokenizer")
    rewrite = partial(perturbed, kind=kind, noise=noise, rng=rng)
    return rewritten_windows(name, bench.pool.corpus.held_out["test"][name], tokenizer, rewrite)


def _nats(
    bench: Workbench, contenders: Mapping[str, Mixture | None], tables: Mapping[str, WindowTable]
) -> dict[str, dict[str, Floats]]:
    """Return the nats (W,) of every contender under every condition. Raises `NonFiniteLossError`."""
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
    """Return the contenders, equal mixtures once: the best mixture may be a baseline."""
    digests = [mixture.digest if mixture else SEED for mixture in contenders.values()]
    return tuple(name for at, name in enumerate(contenders) if digests[at] not in digests[:at])


def _condition_json(condition: Condition) -> Json:
    table = condition.table
    return {
        "tokens": int(table.tokens.sum()),
        "bytes": int(table.bytes.sum()),
        "documents": len(np.unique(table.document)),
        "order": condition.order,
        "contenders": {name: score.as_json() for name, score in condition.scores.items()},
        "behind": {
            name: {
                "difference": paired.difference,
                "standard_error": paired.standard_error,
                "told_apart": paired.told_apart,
            }
            for name, paired in condition.behind.items()
        },
    }
