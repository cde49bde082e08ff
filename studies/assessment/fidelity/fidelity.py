"""How far the merge's loss stands for the loss of training, on one pool and goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from objectives.agreement.rule_choice import RuleChoice, choose_rule
from objectives.agreement.statistics import Interval, NoiseFloor, bootstrap, statistics_of
from objectives.merging.rules import MergeRule, make_rule
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from pool.progress import track
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths

Agreement = Mapping[str, Interval]
"""Every statistic of `objectives.agreement.statistics` with its interval over mixtures."""


@dataclass(frozen=True, eq=False)
class Agreed:
    """Proxy and truth of N mixtures on one split, compared by reading."""

    proxy: Readings
    truth: Readings
    agreement: Mapping[str, Agreement]
    noise: Mapping[str, NoiseFloor]

    @property
    def ceiling(self) -> float | None:
        """The highest Pearson correlation under noise; None if not measured."""
        return self.noise[VALUE].ceiling(self.truth[VALUE]) if VALUE in self.noise else None


@dataclass(frozen=True, eq=False)
class Fidelity:
    """Agreement by split, and the choice of merge rules on the search split."""

    study: str
    measure: str
    truths: Truths
    by_split: Mapping[Split, Agreed]
    rules: RuleChoice

    @property
    def mixtures(self) -> Mapping[str, Mixture]:
        return self.truths.mixtures


def run_fidelity(
    instruments: Instruments, truths: Truths, proxies_by_split: Mapping[Split, Readings], rules: Mapping[str, MergeRule]
) -> Fidelity:
    """Compare truths with their proxies and with merges by other rules."""
    by_split = {split: _agreed(truths, split, proxies_by_split[split]) for split in SPLITS}
    own = rule_name(instruments.proxy.settings.rule)
    proxies = {own: by_split["search"].proxy[VALUE]}
    others = {name: rule for name, rule in rules.items() if name != own}
    mixtures = list(truths.mixtures.values())
    with track("merges by other rules", len(others) * len(mixtures)) as show:
        for number, (name, rule) in enumerate(others.items(), start=1):
            objective = instruments.proxy_value(rule)
            proxies[name] = np.array([objective(mixture).value for mixture in mixtures])
            show(number * len(mixtures), name)
    choice = choose_rule(proxies, by_split["search"].truth[VALUE], own=own)
    return Fidelity(instruments.study.name, instruments.goals["search"].measure, truths, by_split, choice)


def rules_with(exponents: Sequence[float]) -> dict[str, MergeRule]:
    kinds = ("power", "common-specific")
    rules = [make_rule("identity", 1.0), *(make_rule(kind, exponent) for kind in kinds for exponent in exponents)]
    return {rule_name(rule): rule for rule in rules}


def rule_name(rule: MergeRule) -> str:
    return " ".join(str(part) for part in rule.digest_parts.values())


def _agreed(truths: Truths, split: Split, proxy: Readings) -> Agreed:
    truth, noise = truths.readings[split], truths.noise[split]
    agreement = {}
    for name, values in truth.items():
        margin = noise[name].margin if name in noise else None
        agreement[name] = bootstrap(statistics_of(len(values), noise_difference=margin), proxy[name], values)
    return Agreed(proxy, truth, agreement, noise)
