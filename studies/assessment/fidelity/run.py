"""Puts a fidelity report together: truths, comparison, corrections, proposal, picture."""

from dataclasses import dataclass
from pathlib import Path

import optuna

from objectives.agreement.calibration import LEAST_TRUTHS
from pool.corpus.corpus import Split
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import ConfigError
from pool.mixture import Mixture
from studies.assessment.fidelity.design import design, union_design
from studies.assessment.fidelity.fidelity import rules_with, run_fidelity
from studies.assessment.fidelity.forecast import Forecast, Forecaster, proxies_of
from studies.assessment.fidelity.imported_truths import import_truths
from studies.assessment.fidelity.picture import draw_fidelity
from studies.assessment.fidelity.proposal import propose
from studies.assessment.fidelity.readings import Instruments
from studies.assessment.fidelity.report import FidelityReport
from studies.assessment.fidelity.truths import TruthPlan, Truths, known_truths, train_truths
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture
from studies.terminal import named_weights

NEW_MERGES = 8


@dataclass(frozen=True)
class FidelityRequest:
    """What to train or where truths were measured, and what to compare."""

    mixtures: int
    repeats: int = 0
    truths: Path | None = None
    exponents: tuple[float, ...] = ()
    train_proposal: bool = False
    unions: bool = False


def make_report(
    bench: Workbench, study: optuna.Study, wanted: FidelityRequest, engine: Engine = ONE_BY_ONE
) -> FidelityReport:
    """Train (by an engine) or import the truths, and report. Raises a `MixscoutError` of the thing at fault."""
    instruments = Instruments(bench)
    truths = _truths(instruments, study, wanted, engine)
    proxies = proxies_of(instruments, truths)
    forecaster = Forecaster.learn(instruments, truths, proxies)
    fidelity = run_fidelity(instruments, truths, proxies, rules_with(wanted.exponents))
    proposal = propose(forecaster, study, list(truths.mixtures.values()), new_merges=NEW_MERGES)
    trained: Truths | None = None
    if wanted.train_proposal:
        both = {"proposal": proposal.mixture, "best": proposal.best_mixture}
        trained = train_truths(instruments, both, TruthPlan(as_long_as_members=wanted.unions), engine)
    path = bench.pool.config.root / "reports" / f"{bench.config.name}.fidelity.png"
    return FidelityReport(fidelity, forecaster, proposal, draw_fidelity(fidelity, "test", path), trained)


def forecast_mixture(
    bench: Workbench, study: optuna.Study, mixture: Mixture | None, truths: Path | None
) -> tuple[Mixture, Forecaster, dict[Split, Forecast]]:
    """Predict what training a mixture, or the study's best one, would give; nothing is trained."""
    instruments = Instruments(bench)
    known = import_truths(instruments, truths) if truths else known_truths(instruments)
    forecaster = Forecaster.learn(instruments, known, proxies_of(instruments, known))
    asked = (mixture or best_mixture(bench, study)).over(bench.pool.names)
    return asked, forecaster, forecaster.forecast(asked)


def parse_mixture(text: str, bench: Workbench) -> Mixture:
    """Read `a=0.5,b=0.5`. Raises `ConfigError` that names the part that does not fit."""
    return named_weights(text, bench.pool.names, option="--mixture")


def parse_exponents(text: str) -> tuple[float, ...]:
    """Read `0.5,0.75`. Raises `ConfigError` that names the part that does not fit."""
    found = []
    for part in filter(None, text.split(",")):
        try:
            found.append(float(part))
        except ValueError:
            raise ConfigError(f"--exponents: {part!r} is no number; give some above 0, like 0.5,0.75") from None
        if not 0 < found[-1] < float("inf"):
            raise ConfigError(f"--exponents: an exponent must be above 0: got {part!r}")
    return tuple(dict.fromkeys(found))


def _truths(instruments: Instruments, study: optuna.Study, wanted: FidelityRequest, engine: Engine) -> Truths:
    if wanted.truths:
        return import_truths(instruments, wanted.truths)
    if wanted.mixtures < LEAST_TRUTHS:
        raise ConfigError(f"--mixtures must be {LEAST_TRUTHS} or more, fewer say nothing: got {wanted.mixtures}")
    if wanted.unions:
        plan = union_design(instruments.bench, wanted.mixtures)
    else:
        plan = design(instruments.bench, study, wanted.mixtures)
    training = TruthPlan(wanted.repeats, as_long_as_members=wanted.unions)
    return train_truths(instruments, plan, training, engine)
