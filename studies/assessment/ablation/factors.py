"""Factors of an ablation: whether the best mixture depends on the merge rule, or on the members' recipe.

Every setting of a small factorial has a rule and members of its own. Members by another recipe are models trained on
one partition, kept among the pool's ground truths: a second call, or another factorial, trains them no more.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
import optuna
from pydantic import ValidationError

from objectives.agreement.statistics import bootstrap, spearman
from objectives.evaluation import Evaluation, Objective
from objectives.losses.merged_loss import make_room
from objectives.merging.rules import MergeRule, make_rule
from objectives.scoring.paired import PairedDifference
from pool.config.recipe import Recipe
from pool.corpus.corpus import Split
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.parts.provenance import TruthRun
from pool.progress import track
from search.strategies.designs import spread
from search.trials import IMPORTED, START, best_trial, completed_trials
from studies.answers.ages import DESIGN, SMALL
from studies.answers.score import score_of
from studies.assessment.ablation.ablation import Combination, FactorAblation, Outcome, TwoSettings
from studies.opened.on_pool import Workbench, one_loss_of
from studies.opened.opened_study import best_mixture, note_models
from studies.opened.proxy import Proxy
from studies.running.evidence import imported_trial

if TYPE_CHECKING:
    from pool.building.training.costs import Costs

RULE, RECIPE = "rule", "recipe."
MOST_SETTINGS = 16
SEARCHED = 8
"""Most merges of the search under a setting, each with its gradient."""


def settings_of(bench: Workbench, texts: Sequence[str]) -> list[Combination]:
    """Read `rule=identity,power:0.65` and `recipe.tokens=80_000,160_000` as all settings of a factorial.

    Raises `ConfigError` for the factor or the value at fault. Settings of one recipe follow each other.
    """
    bench = one_loss_of(bench, "`ablate --factors` compares merges")
    factors = dict(_factor(text) for text in texts)
    count = int(np.prod([len(values) for values in factors.values()]))
    if count > MOST_SETTINGS:
        raise ConfigError(f"--factors: {count} settings are more than {MOST_SETTINGS}; give fewer values")
    rows = [dict(zip(factors, values, strict=True)) for values in product(*factors.values())]
    own = (bench.proxy.settings.rule, bench.proxy.pool.config.recipe)
    found = [_setting(row, *own) for row in rows]
    recipes = list(dict.fromkeys(one.recipe.digest for one in found))
    return sorted(found, key=lambda one: recipes.index(one.recipe.digest))


def _factor(text: str) -> tuple[str, list[str]]:
    name, _, values = (part.strip() for part in text.partition("="))
    listed = list(dict.fromkeys(value.strip() for value in values.split(",") if value.strip()))
    if name != RULE and not (name.startswith(RECIPE) and name.removeprefix(RECIPE) in Recipe.model_fields):
        raise ConfigError(
            f"--factors {text}: {name!r} is no factor; give rule, or recipe.KEY with a key of the pool file's "
            "[recipe], such as recipe.learning_rate=1e-3,3e-4"
        )
    if len(listed) < 2:
        raise ConfigError(f"--factors {text}: a factor takes two values or more, such as {name}=A,B")
    return name, listed


def _setting(values: Mapping[str, str], rule: MergeRule, recipe: Recipe) -> Combination:
    given = {name.removeprefix(RECIPE): _toml(value) for name, value in values.items() if name != RULE}
    try:
        found = Recipe.model_validate({**recipe.model_dump(exclude_unset=True), **given}) if given else recipe
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"--factors {RECIPE}{key}: {str(first['msg']).removeprefix('Value error, ')}") from None
    return Combination(values, _rule(values[RULE]) if RULE in values else rule, found)


def _toml(value: str) -> object:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _rule(text: str) -> MergeRule:
    name, _, exponent = text.partition(":")
    try:
        return make_rule(name, float(exponent) if exponent else None)
    except ValueError as error:
        raise ConfigError(f"--factors {RULE}: {text!r}: {error}; write identity, or power:0.65") from None


def run_factors(
    bench: Workbench, study: optuna.Study, settings: Sequence[Combination], engine: Engine = ONE_BY_ONE
) -> FactorAblation:
    """Train missing members, search under every setting, and judge each best mixture under every other.

    Raises `StudyError` before the first evaluation, `PoolError` and `EngineError`.
    """
    searched, design = best_mixture(bench, study), _design(bench)
    _train(bench, settings, engine)
    found = []
    with track(f"settings of {bench.config.name}", len(settings)) as show:
        for number, (setting, proxy) in enumerate(_proxies(bench, settings), start=1):
            found.append(_searched(bench, _loss(bench, setting, proxy, "search"), setting, searched, design))
            show(number, setting.name)
    judged = [_judged(bench, found, setting, proxy) for setting, proxy in _proxies(bench, settings)]
    pairs = [_pair(bench, found, judged, places) for places in combinations(range(len(settings)), 2)]
    margin = SMALL * float(np.median([np.std(one.design) for one in found]))
    return FactorAblation(bench.config.name, bench.target.measure, found, pairs, margin)


def factor_costs(
    bench: Workbench, study: optuna.Study, settings: Sequence[Combination], engine: Engine = ONE_BY_ONE
) -> Costs:
    """Measure the costs of `run_factors` on a study opened privately; what is remembered of it is not known before."""
    best_mixture(bench, study)
    from studies.running.costs import Work, costs_of  # loads torch

    count = len(settings)
    work = Work(
        f"{count} settings of study {bench.config.name!r}",
        bench.target,
        "search",
        runs=_runs(bench, settings),
        merges=count * (DESIGN + count),
        gradients=count * SEARCHED,
        notes=("a member trained by a setting's recipe is trained once; what is remembered is not merged again",),
    )
    return costs_of(bench, work, engine)


def _design(bench: Workbench) -> list[Mixture]:
    try:
        return spread(bench.space, DESIGN, seed=bench.config.search.seed, before=[])
    except ValueError as error:
        raise ConfigError(f"[space] {error}") from None


def _runs(bench: Workbench, settings: Sequence[Combination]) -> list[TruthRun]:
    """List the members of all settings, each recipe's once; a member of the pool is its own run."""
    names = bench.proxy.pool.by_units().names
    recipes = {one.recipe.digest: one.recipe for one in settings}
    return [TruthRun(Mixture.vertex(names, name), recipe, name) for recipe in recipes.values() for name in names]


def _train(bench: Workbench, settings: Sequence[Combination], engine: Engine) -> None:
    from pool.building.job import folder_of, is_trained, train_runs  # loads torch

    pool, runs = bench.proxy.pool.by_units(), _runs(bench, settings)
    note_models(bench, "ablate", (folder_of(pool, run).relative_to(pool.folder) for run in runs))
    if all(is_trained(pool, run) for run in runs):
        return
    make_room(bench.proxy.members)
    with track("members of all settings", len(runs), shown=engine.elsewhere) as show:
        for done, _ in enumerate(train_runs(pool, runs, engine), start=1):
            show(done, "")


def _proxies(bench: Workbench, settings: Sequence[Combination]) -> Iterator[tuple[Combination, Proxy]]:
    """Pair the settings with merges of their members; one recipe's members are loaded at a time."""
    from pool.building.job import folder_of  # loads torch

    own, units, held, recipe = bench.proxy, bench.proxy.pool.by_units(), bench.proxy, _own_recipe(bench)
    for setting in settings:
        if setting.recipe.digest != recipe:
            recipe = setting.recipe.digest
            make_room(held.members)
            runs = {run.name: folder_of(units, run) for run in _runs(bench, [setting])}
            held = own if recipe == _own_recipe(bench) else replace(own, pool=own.pool.with_members(runs))
        yield setting, held


def _own_recipe(bench: Workbench) -> str:
    """Return the digest of the pool's recipe."""
    return bench.proxy.pool.config.recipe.digest


def _loss(bench: Workbench, setting: Combination, proxy: Proxy, split: Split) -> Objective:
    from studies.database.remembered import RememberedObjective
    from studies.running.plan import penalised  # loads SciPy

    loss = proxy.loss(bench.goals[split], split, replace(proxy.settings, rule=setting.rule))
    return penalised(bench, RememberedObjective(loss, bench.database.evaluations))


def _searched(
    bench: Workbench, loss: Objective, setting: Combination, searched: Mixture, design: Sequence[Mixture]
) -> Outcome:
    """Search from the study's best mixture, with the design as evidence."""
    from search.loop import Search, advance  # loads SciPy
    from search.strategies.auto import AUTO

    trials, values = optuna.create_study(), []
    for number, mixture in enumerate(design):
        found = replace(loss(mixture), gradient=None)  # a gradient known since would change the proposals
        values.append(found.value)
        trials.add_trial(imported_trial(found, {START: f"design:{number}", IMPORTED: "design"}, trials, bench.space))
    advance(trials, Search(loss, bench.space, AUTO, bench.config.search.seed, None, {"searched": searched}), SEARCHED)
    best = best_trial(completed_trials(trials))
    assert best is not None, "the design has values"
    mixture = bench.space.mixture_of(best)
    return Outcome(setting, mixture, loss(mixture).value, values)


def _judged(bench: Workbench, found: Sequence[Outcome], setting: Combination, proxy: Proxy) -> list[Evaluation]:
    """Evaluate the best mixture of every setting under one of them, on the test split."""
    loss = _loss(bench, setting, proxy, "test")
    return [loss(one.best) for one in found]


def _pair(
    bench: Workbench, found: Sequence[Outcome], judged: Sequence[Sequence[Evaluation]], places: tuple[int, int]
) -> TwoSettings:
    one, other = places
    values = [np.array(found[at].design) for at in places]
    alike = bootstrap({"spearman": spearman}, *values)["spearman"]
    return TwoSettings(
        places, alike, (_regret(bench, judged[other], one, other), _regret(bench, judged[one], other, one))
    )


def _regret(bench: Workbench, under: Sequence[Evaluation], of: int, best: int) -> PairedDifference:
    """Return how much worse a setting's best mixture is than another's, both evaluated under the other."""
    paired = score_of(bench, under[of], "test").behind(score_of(bench, under[best], "test"))
    return replace(paired, difference=under[of].value - under[best].value)  # with a penalty, if any
