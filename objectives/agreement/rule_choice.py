"""The choice of a merge rule, judged on the truths of N mixtures.

Correlation over all mixtures once chose a rule with an optimum that trained worse. So a rule is judged at the choices
made with it, in the unit of the loss:

    criterion = weighted leave-one-out error + expected regret
    weighted error = sqrt(sum_i v_i e_i^2 / sum_i v_i),   v_i = exp(-(truth_i - lowest truth) / spread of the truths)
    expected regret = mean over resamples of: truth of the proxy's favourite less the lowest truth

e_i is the error of the line truth = a + b proxy fitted without i: calibration removes a bias, so bias goes unpunished.
All rules see the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from objectives.agreement.rule_average import LEAST_TRUTHS
from objectives.agreement.statistics import Interval, interval_of, regret_at_1, resampled, spearman
from objectives.held_out import Floats

ERROR_RATE = 0.05
"""Chance of recommending another rule than the study's own although none is better."""
_NEGLIGIBLE = 1e-9
LEAST_TO_CHOOSE = 12
"""From fewer truths no other rule is recommended: resamples of so few are too much alike to rule chance out."""


@dataclass(frozen=True)
class RuleScore:
    """The figures of one rule, in the unit of the loss except `spearman` and `wins`.

    behind: its criterion less that of the study's own rule.
    wins: the share of resamples with its criterion the lowest of all.
    """

    name: str
    spearman: float
    bias: float
    weighted_error: float
    expected_regret: float
    criterion: Interval
    behind: Interval
    wins: float


@dataclass(frozen=True)
class RuleChoice:
    """The rules, the lowest criterion first.

    own: the study's rule.
    recommended: the same, unless another is better beyond chance.
    truths: the number of trained mixtures.
    """

    scores: Sequence[RuleScore]
    own: str
    recommended: str
    truths: int

    @property
    def told_apart(self) -> bool:
        return self.recommended != self.own


def choose_rule(proxies: Mapping[str, Floats], truth: Floats, *, own: str) -> RuleChoice:
    """Compare rules by their proxies (N,) of the same mixtures, with truths (N,).

    Recommending another rule than `own` takes `LEAST_TO_CHOOSE` truths and a lower criterion beyond chance,
    Bonferroni-corrected for the number of rules. Raises `ValueError` for too few truths to calibrate.
    """
    parts = {name: _resampled(proxy, truth) for name, proxy in proxies.items()}
    criteria = {name: part.sum(axis=0) for name, part in parts.items()}
    lowest = np.min(list(criteria.values()), axis=0)
    scores = [_score(name, proxies[name], truth, part, criteria[own], lowest) for name, part in parts.items()]
    scores.sort(key=lambda score: (round(score.criterion.value, 9), score.name != own))
    best = scores[0].name
    level = 1 - ERROR_RATE / max(1, len(proxies) - 1)
    behind = float(np.quantile(criteria[best] - criteria[own], level))
    beyond_chance = len(truth) >= LEAST_TO_CHOOSE and behind < -_NEGLIGIBLE
    return RuleChoice(scores, own, best if beyond_chance else own, len(truth))


def errors_of_line(proxy: Floats, truth: Floats) -> Floats:
    """Return the error (N,) of each truth by the line through the others: its residual over 1 - leverage."""
    if len(truth) < LEAST_TRUTHS:
        raise ValueError(f"judging a merge rule takes {LEAST_TRUTHS} truths or more: there are {len(truth)}")
    features = np.stack([np.ones(len(proxy)), proxy - proxy.mean()], axis=1)
    influence = np.linalg.pinv(features)
    residuals = truth - features @ (influence @ truth)
    leverage = (features * influence.T).sum(axis=1)
    errors: Floats = residuals / np.maximum(1 - leverage, _NEGLIGIBLE)
    return errors


def _resampled(proxy: Floats, truth: Floats) -> Floats:
    """Return weighted error and regret (2, B) of every resample."""
    errors = errors_of_line(proxy, truth)
    spread = float(truth.std()) or 1.0
    near = np.exp(-(truth - truth.min()) / spread)

    def parts(near: Floats, squares: Floats, proxy: Floats, truth: Floats) -> Floats:
        weighted = np.sqrt((near * squares).sum(axis=-1) / near.sum(axis=-1))
        return np.stack([weighted, regret_at_1(proxy, truth)])

    return resampled(parts, near, errors**2, proxy, truth)


def _score(name: str, proxy: Floats, truth: Floats, part: Floats, own: Floats, lowest: Floats) -> RuleScore:
    criterion = part.sum(axis=0)
    behind = criterion - own
    return RuleScore(
        name,
        spearman=float(spearman(proxy, truth)),
        bias=float((proxy - truth).mean()),
        weighted_error=float(part[0].mean()),
        expected_regret=float(part[1].mean()),
        criterion=interval_of(float(criterion.mean()), criterion),
        behind=interval_of(float(behind.mean()), behind),
        wins=float((criterion <= lowest).mean()),
    )
