"""From an opened study to its search: start design, gate and stop rules."""

from collections.abc import Container
from typing import get_args

import optuna

from objectives.evaluation import Objective
from objectives.losses.regularised import regularised
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import say
from search.gate import Gate, GateRule
from search.loop import Search
from search.space import CappedSimplex
from search.stop import ExpectedImprovement, StopRules
from search.strategies.designs import unimax
from search.surrogates.automatic import AutomaticSurrogate
from search.surrogates.surrogate import ConformalSurrogate
from search.trials import START, best_trial, completed_trials
from studies.database.database import Database
from studies.opened.identity import recorded_space
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import PRIOR, OpenedStudy, kept_prior
from studies.opened.space import Basis, prior_of, training_budget
from studies.study_file.search_sections import GateConfig, StartMixture, StopConfig, TextPrior
from studies.study_file.study_file import StudyFile


def planned_search(bench: OpenedStudy) -> Search:
    """Put together a search. Raises `ConfigError` when the study to start from cannot serve."""
    config, wanted = bench.config, bench.config.search
    return Search(
        penalised(bench, bench.objective),
        bench.space,
        wanted.strategy_found,
        wanted.seed,
        _gate(config.gate, seed=wanted.seed) if config.gated else None,
        start_mixtures(bench, known=_started(bench)),
        several=bench.several,
        stop_early=config.early_stopping.enabled and not bench.several,
        stop=_stop_rules(wanted.stop, bench.space, wanted.seed, config.gate.min_evidence),
        retries=wanted.retries,
    )


def penalised(bench: OpenedStudy, objective: Objective) -> Objective:
    """Add the study's penalty for the distance from its prior, if any."""
    strength = bench.config.search.kl
    return regularised(objective, prior_mixture(bench), strength) if strength else objective


def prior_mixture(bench: OpenedStudy) -> Mixture:
    """Return the study's prior; of a prior by name, the weights that its search began with."""
    wanted = bench.config.search.prior
    if not isinstance(wanted, str):
        return prior_of(wanted, bench.basis)
    return kept_prior(bench) or _on_pool(bench).text.centre(wanted)


def keep_prior(bench: OpenedStudy, study: optuna.Study) -> None:
    """Keep the weights of a prior by name with a new study."""
    if isinstance(bench.config.search.prior, str) and PRIOR not in study.user_attrs:
        study.set_user_attr(PRIOR, prior_mixture(bench).as_dict())


def start_mixtures(bench: OpenedStudy, *, known: Container[str]) -> dict[str, Mixture]:
    """Name the mixtures to evaluate first, in the order of the study file; another study's best comes last.

    A `known` mixture is not read from the other study again: the study may have gone on, or away. Nor is one from text.
    """
    config, basis, database = bench.config, bench.basis, bench.database
    found: dict[str, Mixture] = {}
    for choice in config.search.start:
        if not (choice in get_args(TextPrior) and choice in known):
            found |= named_mixtures(choice, bench)
    other = config.search.start_from
    if other and (name := f"best-of:{other}") not in known:
        found[name] = _best_mixture(other, basis, database)
    return found


def _started(bench: OpenedStudy) -> set[str]:
    """Name the study's mixtures of the start design so far."""
    if bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return set()
    study = optuna.load_study(storage=bench.database.optuna, study_name=bench.config.name)
    return {str(trial.user_attrs[START]) for trial in study.get_trials(deepcopy=False) if START in trial.user_attrs}


def say_gate(config: StudyFile) -> None:
    """Say that no gate judges where the file does not say so itself."""
    if config.gate.enabled and not config.gated:
        say(f"search {config.name}: the gate is off, for predictions cost less than judging; any key of [gate] sets it")


def _gate(wanted: GateConfig, *, seed: int) -> Gate:
    return Gate(GateRule(**wanted.model_dump(exclude={"enabled"})), seed=seed)


def _stop_rules(wanted: StopConfig, space: CappedSimplex, seed: int, min_evidence: int) -> StopRules:
    rule: ExpectedImprovement | None = None
    if wanted.min_expected_improvement is not None:
        surrogate = ConformalSurrogate(AutomaticSurrogate())
        rule = ExpectedImprovement(wanted.min_expected_improvement, surrogate, space, min_evidence, seed)
    return StopRules(wanted.seconds, wanted.tokens, wanted.patience, wanted.min_improvement, rule)


def named_mixtures(choice: StartMixture, bench: OpenedStudy) -> dict[str, Mixture]:
    """Return the mixtures that a name in [search] start stands for, by their own names."""
    basis, wanted = bench.basis, bench.config.space
    if choice == "vertices":
        return {f"vertex:{name}": Mixture.vertex(basis.names, name) for name in bench.space.allowed}
    if choice == "uniform":
        return {choice: Mixture.uniform(basis.names)}
    if choice == "proportional":
        return {choice: basis.proportional()}
    if choice == "prior":
        return {choice: prior_mixture(bench)}
    if choice == "unimax":
        return {choice: unimax(basis.tokens, training_budget(wanted, basis), wanted.max_epochs or 1.0)}
    return {choice: _on_pool(bench).text.mixture(choice)}


def _on_pool(bench: OpenedStudy) -> Workbench:
    assert isinstance(bench, Workbench), "a table has no text, as the study file's check says"
    return bench


def _best_mixture(other: str, basis: Basis, database: Database) -> Mixture:
    where = f"[search] start_from: study {other!r}"
    try:
        study = optuna.load_study(storage=database.optuna, study_name=other)
    except KeyError:
        raise ConfigError(f"{where} is not in {database.address}; run `mixscout search` on its file first") from None
    space = recorded_space(study)
    if space is None:
        raise ConfigError(f"{where} was not made by Mixscout; name one that was")
    different = sorted(set(space.names) ^ set(basis.names))
    if different:
        raise ConfigError(
            f"{where} is over other partitions than this {basis.kind} ({', '.join(different)} only in one of them); "
            "name a study over the same partitions"
        )
    trial = best_trial(completed_trials(study))
    if trial is None:
        raise ConfigError(f"{where} has no evaluated mixture yet; run `mixscout search` on its file first")
    return space.mixture_of(trial).over(basis.names)
