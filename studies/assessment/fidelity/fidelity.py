"""How far the merge's loss stands for the loss of training, on one pool and goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from objectives.agreement.rule_choice import RuleChoice, choose_rule
from objectives.agreement.statistics import Interval, NoiseFloor, bootstrap, statistics_of
from objectives.merging.rules import MergeRule, make_rule
from pool.corpus.corpus import SPLITS, Split
from pool.errors import ConfigError
from pool.mixture import Mixture
from studies.assessment.fidelity.readings import VALUE, Instruments, Readings
from studies.assessment.fidelity.truths import Truths

Proxies = Mapping[Split, Mapping[str, Readings]]
"""Readings of the same mixtures' merges by split and merge rule."""
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


def run_fidelity(instruments: Instruments, truths: Truths, proxies: Proxies) -> Fidelity:
    """Compare truths with their merges by the study's rule and, on the search split, by others."""
    own = rule_name(instruments.rule)
    by_split = {split: _agreed(truths, split, proxies[split][own]) for split in SPLITS}
    values = {name: readings[VALUE] for name, readings in proxies["search"].items()}
    choice = choose_rule(values, by_split["search"].truth[VALUE], own=own)
    return Fidelity(instruments.study.name, instruments.goals["search"].measure, truths, by_split, choice)


def rules_with(instruments: Instruments, exponents: Sequence[float]) -> dict[str, MergeRule]:
    """Name the study's own rule, the identity, rules with the given exponents, and the Fisher rule for whole models."""
    kinds = ("power", "common-specific")
    given = [make_rule(kind, exponent) for kind in kinds for exponent in exponents]
    of_rows = [make_rule("fisher")] if instruments.proxy.holding.devices == 1 else []
    rules = [instruments.rule, make_rule("identity"), *given, *of_rows]
    return {rule_name(rule): rule for rule in rules}


def parse_exponents(text: str) -> tuple[float, ...]:
    """Read `0.5,0.75`. Raises `ConfigError` for the part at fault."""
    found = []
    for part in filter(None, text.split(",")):
        try:
            found.append(float(part))
        except ValueError:
            raise ConfigError(f"--exponents: {part!r} is no number; give some above 0, like 0.5,0.75") from None
        if not 0 < found[-1] < float("inf"):
            raise ConfigError(f"--exponents: an exponent must be above 0: got {part!r}")
    return tuple(dict.fromkeys(found))


def rule_name(rule: MergeRule) -> str:
    """Name a rule with its exponent, where it has one."""
    parts = rule.digest_parts
    return " ".join(str(parts[part]) for part in ("name", "exponent") if part in parts)


def _agreed(truths: Truths, split: Split, proxy: Readings) -> Agreed:
    truth, noise = truths.readings[split], truths.noise[split]
    agreement = {}
    for name, values in truth.items():
        margin = noise[name].margin if name in noise else None
        agreement[name] = bootstrap(statistics_of(len(values), noise_difference=margin), proxy[name], values)
    return Agreed(proxy, truth, agreement, noise)
