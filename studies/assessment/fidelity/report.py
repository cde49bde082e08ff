"""The verbs `fidelity` and `predict`: truths, comparison, corrections, proposal, report.

The mixtures to train are the best, the baselines, and a spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna

from objectives.agreement.rule_average import LEAST_TRUTHS
from objectives.agreement.rule_choice import RuleScore
from pool.corpus.corpus import SPLITS, Split
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import ConfigError
from pool.files.names import file_name
from pool.files.whole import may_write
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from search.space import CappedSimplex
from search.strategies.designs import spread
from studies.answers.score import Json
from studies.assessment.fidelity.fidelity import Agreed, Fidelity, rule_name, rules_with, run_fidelity
from studies.assessment.fidelity.forecast import Forecast, Forecaster, Proposal, forecast_json, propose
from studies.assessment.fidelity.picture import draw_fidelity
from studies.assessment.fidelity.priors import JudgedPrior, Known, judge_priors
from studies.assessment.fidelity.readings import VALUE, Instruments
from studies.assessment.fidelity.truths import TruthPlan, Truths, import_truths, known_truths, train_truths
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

if TYPE_CHECKING:
    from pool.building.training.costs import Costs

_TRIES = 100
ANCHOR = "mixscout:fidelity_anchor"
"""On the study: the best mixture of the first design, so that a later, larger design begins with the same mixtures."""


def design(bench: Workbench, study: optuna.Study, count: int) -> dict[str, Mixture]:
    """Name `count` different mixtures of two partitions or more; a larger design keeps the smaller one.

    A model trained on a single partition is the member, so single partitions are left out. Raises `ConfigError` for a
    space without others, and `StudyError` before the first evaluation.
    """
    names, best = bench.proxy.pool.names, best_mixture(bench, study)
    named = {"best": best, "uniform": Mixture.uniform(names), "proportional": bench.proxy.pool.proportional()}
    anchor = _anchor(study, best).over(names)
    fixed = [named["uniform"], named["proportional"], anchor]
    try:
        others = spread(bench.space, count, seed=bench.config.search.seed, before=fixed, near=anchor)
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None
    named |= {f"spread-{number}": mixture for number, mixture in enumerate(others, start=1)}
    plan: dict[str, Mixture] = {}
    seen: set[str] = set()
    for name, mixture in named.items():
        if len(mixture.support) > 1 and len(plan) < count and mixture.digest not in seen:
            seen.add(mixture.digest)
            plan[name] = mixture.over(names)
    return plan


def union_design(space: CappedSimplex, count: int, *, seed: int) -> dict[str, Mixture]:
    """Name `count` even mixtures of random sizes from two on; a larger design keeps the smaller one.

    Raises `ConfigError` when the space has fewer.
    """
    names = space.allowed
    most = min(len(names), space.max_members)
    subsets = sum(math.comb(len(names), size) for size in range(2, most + 1))
    plan: dict[str, Mixture] = {}
    seen: set[tuple[int, ...]] = set()
    for number in range(_TRIES * count):
        if len(plan) == count or len(seen) == subsets:
            break
        rng = np.random.default_rng([seed, number])
        size = int(rng.integers(2, most + 1))
        places = tuple(sorted(int(at) for at in rng.permutation(len(names))[:size]))
        if places not in seen:
            seen.add(places)
            mixture = Mixture.uniform([names[at] for at in places]).over(space.names)
            if space.contains(mixture):
                plan[f"union-{len(plan) + 1}"] = mixture
    if len(plan) == count:
        return plan
    raise ConfigError(
        f"[space] has {len(plan)} even mixtures of two partitions or more, fewer than {count}; ask for less"
    )


def _anchor(study: optuna.Study, best: Mixture) -> Mixture:
    recorded = study.user_attrs.get(ANCHOR)
    if recorded is None:
        study.set_user_attr(ANCHOR, best.as_dict())
        return best
    return Mixture.of(recorded)


NEW_MERGES = 8
"""Most mixtures merged to find the proposal."""


@dataclass(frozen=True)
class FidelityRequest:
    """How many truths to train, or the folder with measured ones, and the exponents of the rules to compare.

    output: folder of the picture; None for ROOT/reports
    """

    mixtures: int
    repeats: int = 0
    truths: Path | None = None
    exponents: tuple[float, ...] = ()
    train_proposal: bool = False
    unions: bool = False
    output: Path | None = None


@dataclass(frozen=True, eq=False)
class FidelityReport:
    """The comparison, the corrections, the proposal and, if asked for, its truth; priors beside the merge."""

    fidelity: Fidelity
    forecaster: Forecaster
    proposal: Proposal
    picture: Path | None
    trained_proposal: Truths | None = None
    priors: Sequence[JudgedPrior] = ()

    def trained(self, split: Split) -> tuple[float, float] | None:
        """Return the trained values of proposal and best mixture."""
        if self.trained_proposal is None:
            return None
        proposal, best = self.trained_proposal.readings[split][VALUE].tolist()
        return proposal, best

    def as_json(self) -> Json:
        fidelity, choice = self.fidelity, self.fidelity.rules
        return {
            "study": fidelity.study,
            "measure": fidelity.measure,
            "truths": fidelity.truths.source,
            "ignored": list(fidelity.truths.ignored),
            "mixtures": [self._mixture_json(row, name) for row, name in enumerate(fidelity.mixtures)],
            **{split: _agreed_json(fidelity.by_split[split]) for split in SPLITS},
            "rules": {
                "own": choice.own,
                "recommended": choice.recommended,
                "told_apart": choice.told_apart,
                "scores": [_rule_json(score) for score in choice.scores],
            },
            "priors": [one.as_json() for one in self.priors],
            "calibration": self.forecaster.as_json(),
            "proposal": self._proposal_json(),
            "picture": str(self.picture) if self.picture else None,
        }

    def _mixture_json(self, row: int, name: str) -> Json:
        def pair(agreed: Agreed, reading: str) -> Json:
            return {"proxy": float(agreed.proxy[reading][row]), "trained": float(agreed.truth[reading][row])}

        splits: Json = {
            split: {**pair(one, VALUE), "domains": {reading: pair(one, reading) for reading in _domains(one)}}
            for split, one in self.fidelity.by_split.items()
        }
        return {"name": name, "mixture": self.fidelity.mixtures[name].as_dict(), **splits}

    def _proposal_json(self) -> Json:
        proposal = self.proposal
        trained = {split: self.trained(split) for split in SPLITS}
        return {
            "mixture": proposal.mixture.as_dict(),
            "new_merges": proposal.new_merges,
            **forecast_json(proposal.forecasts),
            "best": {"mixture": proposal.best_mixture.as_dict(), **forecast_json(proposal.best)},
            "ahead": {
                split: {
                    "difference": proposal.ahead(split),
                    "margin": proposal.margins[split],
                    "told_apart": proposal.told_apart(split),
                }
                for split in SPLITS
            },
            "trained": {
                split: dict(zip(("proposal", "best"), pair, strict=True)) for split, pair in trained.items() if pair
            },
        }


def _domains(agreed: Agreed) -> list[str]:
    return [name for name in agreed.truth if name != VALUE]


def _agreed_json(agreed: Agreed) -> Json:
    return {
        "agreement": _agreement_json(agreed, VALUE),
        "domains": {name: _agreement_json(agreed, name) for name in _domains(agreed)},
        "pearson_ceiling": agreed.ceiling,
    }


def _agreement_json(agreed: Agreed, name: str) -> Json:
    floor = agreed.noise.get(name)
    statistics = {statistic: interval.as_json() for statistic, interval in agreed.agreement[name].items()}
    return {**statistics, "noise": {**asdict(floor), "margin": floor.margin} if floor else None}


def _rule_json(score: RuleScore) -> Json:
    return {**asdict(score), "criterion": score.criterion.as_json(), "behind": score.behind.as_json()}


def make_report(
    bench: Workbench, study: optuna.Study, wanted: FidelityRequest, engine: Engine = ONE_BY_ONE
) -> FidelityReport:
    """Train truths by an engine, or import them, and report. Raises a `MixscoutError`."""
    instruments = Instruments.of(bench)
    training = TruthPlan(wanted.repeats, as_long_as_members=wanted.unions)
    if wanted.truths:
        truths = import_truths(instruments, wanted.truths, normalise=bench.config.normalise)
    else:
        truths = train_truths(instruments, _design(bench, study, wanted), training, engine)
    forecaster = Forecaster.learn(instruments, truths, rules_with(instruments, wanted.exponents))
    fidelity = run_fidelity(instruments, truths, forecaster.proxies)
    proposal = propose(bench, forecaster, study, new_merges=NEW_MERGES)
    trained: Truths | None = None
    if wanted.train_proposal:
        both = {"proposal": proposal.mixture, "best": proposal.best_mixture}
        trained = train_truths(instruments, both, replace(training, repeats=0), engine)
    path = (wanted.output or bench.root / "reports") / f"{file_name(bench.config.name)}.fidelity.png"
    picture = draw_fidelity(fidelity, "test", path) if may_write(path) else None
    own = forecaster.proxies["search"][rule_name(instruments.rule)][VALUE]
    known = Known(list(truths.mixtures.values()), truths.readings["search"][VALUE], own)
    return FidelityReport(fidelity, forecaster, proposal, picture, trained, judge_priors(bench, known))


def fidelity_costs(
    bench: Workbench, study: optuna.Study, wanted: FidelityRequest, engine: Engine = ONE_BY_ONE
) -> Costs:
    """Measure the costs of `make_report` on a study opened privately; the proposal's mixture is not known before."""
    instruments, training = Instruments.of(bench), TruthPlan(wanted.repeats, as_long_as_members=wanted.unions)
    rules, runs = rules_with(instruments, wanted.exponents), list[TruthRun]()
    what = f"the fidelity of study {bench.config.name!r}"
    if wanted.truths:
        mixtures = list(import_truths(instruments, wanted.truths, normalise=bench.config.normalise).mixtures.values())
    else:
        plan = _design(bench, study, wanted)
        mixtures, runs = list(plan.values()), training.all_runs(bench.proxy.pool, plan)
    asked = [instruments.proxy_loss(split, rule) for split in SPLITS for rule in rules.values()]
    new = sum(objective.recall(one) is None for objective in asked for one in mixtures)
    truths = [(run, instruments.truth(split, run.recipe)) for split in SPLITS for run in runs]
    from studies.running.costs import Work, costs_of  # loads torch

    work = Work(
        what,
        instruments.target,
        "test",
        runs=runs,
        merges=new + NEW_MERGES * len(rules),
        readings=sum(truth.recall(run.mixture) is None for run, truth in truths),
        notes=(
            "merges by rules that the truths speak against are left out",
            *(["the proposal, if trained, is one run more"] if wanted.train_proposal else []),
        ),
        remembered={"merges": len(asked) * len(mixtures) - new},
    )
    return costs_of(bench, work, engine)


def _design(bench: Workbench, study: optuna.Study, wanted: FidelityRequest) -> dict[str, Mixture]:
    if wanted.mixtures < LEAST_TRUTHS:
        raise ConfigError(f"--mixtures must be {LEAST_TRUTHS} or more, fewer say nothing: got {wanted.mixtures}")
    if wanted.unions:
        return union_design(bench.space, wanted.mixtures, seed=bench.config.search.seed)
    return design(bench, study, wanted.mixtures)


def forecast_mixture(
    bench: Workbench,
    study: optuna.Study,
    mixture: Mixture | None,
    truths: Path | None,
    exponents: Sequence[float],
) -> tuple[Mixture, Forecaster, dict[Split, Forecast]]:
    """Predict a mixture, or the study's best one, without training."""
    instruments = Instruments.of(bench)
    normalise = bench.config.normalise
    known = import_truths(instruments, truths, normalise=normalise) if truths else known_truths(instruments)
    forecaster = Forecaster.learn(instruments, known, rules_with(instruments, exponents))
    asked = (mixture or best_mixture(bench, study)).over(bench.proxy.pool.names)
    return asked, forecaster, forecaster.forecast(asked)
