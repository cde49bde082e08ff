"""The verb `ablate`: every partition's contribution to the goal and to every held-out domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import optuna

from objectives.held_out import Floats
from objectives.target import Goal
from pool.corpus.corpus import Split
from pool.mixture import Mixture
from pool.progress import say, track
from search.space import CappedSimplex
from search.strategies.gradient import FIRST_MOVE
from search.trials import completed_trials, in_full, value_of
from studies.assessment.ablation.ablation import SEED, Ablation, ShapleyValues
from studies.assessment.ablation.contributions import (
    Contributions,
    Game,
    GameName,
    first_order,
    removals,
    removed_and_added,
)
from studies.assessment.ablation.evidence import DomainEvidence
from studies.assessment.ablation.path import FIRST_POINTS, integrated_gradients
from studies.assessment.ablation.ranking import (
    Noise,
    draw_documents,
    rank_agreements,
    resampled,
    spread,
    stability,
)
from studies.assessment.ablation.shapley import (
    Design,
    Enumeration,
    Interactions,
    choose_design,
    scheffe_interactions,
    shapley_interactions,
)
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture

if TYPE_CHECKING:
    from pool.building.training.costs import Costs

STEPS = 4
"""Steps of ascent from the worst mixture known."""


@dataclass(frozen=True)
class AblationRequest:
    """The options of an ablation: most merges and game of the Shapley values, noise, split, and all domains or not."""

    merges: int
    noise: Noise
    game: GameName = "uniform"
    split: Split = "search"
    everywhere: bool = True


def run_ablation(bench: Workbench, study: optuna.Study, asked: AblationRequest) -> Ablation:
    """Value the coalitions, then every other contribution, without merging remembered mixtures again.

    Raises `StudyError` for a study without a value, and for too few merges.
    """
    best = best_mixture(bench, study)
    uniform = Mixture.uniform(bench.proxy.pool.names)
    game = Game(uniform if asked.game == "uniform" else best)
    design = choose_design(len(game.players), asked.merges, seed=asked.noise.seed)
    evidence = DomainEvidence(bench, asked.split, everywhere=asked.everywhere)
    _value_coalitions(evidence, game, design)
    say(f"ablate {bench.config.name}: leaving out, adding, and what else is compared")
    quantities = removals(evidence, best)
    gradients = first_order(evidence, best)
    if gradients:
        quantities |= {**gradients, "path-to-best": integrated_gradients(bench, evidence, best)}
    mixtures = {"best": best, "uniform": uniform, "worst": _worst_mixture(bench.space, study, evidence)}
    controls = {name: evidence.values(mixture) for name, mixture in mixtures.items()}
    return Ablation(
        bench.config.name,
        asked.split,
        evidence.goal.measure,
        bench.proxy.pool.names,
        evidence.domains,
        mixtures,
        {**controls, SEED: evidence.values(None)},
        _shapley(evidence, game, design, asked),
        quantities,
        _interactions(evidence, game, design, bench.proxy.pool.names),
        rank_agreements(bench, asked.split, asked.noise),
        evidence.merged,
    )


def ablation_costs(bench: Workbench, study: optuna.Study, asked: AblationRequest) -> Costs:
    """Measure the costs of `run_ablation` on a study opened privately; a few of its merges depend on others' values."""
    best, uniform = best_mixture(bench, study), Mixture.uniform(bench.proxy.pool.names)
    game = Game(uniform if asked.game == "uniform" else best)
    design = choose_design(len(game.players), asked.merges, seed=asked.noise.seed)
    evidence = DomainEvidence(bench, asked.split, everywhere=asked.everywhere)
    models = [game.model(coalition) for coalition in design.coalitions[1:]]
    models += [model for pairs in removed_and_added(best).values() for pair in pairs for model in pair]
    named = {model.digest: model for model in models if model is not None}
    merges = sum(not evidence.is_known(model) for model in named.values())
    noisy = 2 * (1 + len(game.players))
    from studies.running.costs import Work, costs_of  # loads torch

    work = Work(
        f"the ablation of study {bench.config.name!r}",
        Goal.over(evidence.domains, "macro", measure=evidence.goal.measure),
        asked.split,
        merges=merges + noisy,
        gradients=0 if evidence.is_known(best, steep=True) else 1 + FIRST_POINTS + STEPS,
        notes=("merges on noisy text and steps of gradients are counted roughly: some depend on others' values",),
        remembered={"merges": len(named) - merges},
    )
    return costs_of(bench, work)


def _value_coalitions(evidence: DomainEvidence, game: Game, design: Design) -> None:
    coalitions = design.coalitions[1:]
    with track("coalitions", len(coalitions)) as show:
        for number, coalition in enumerate(coalitions, 1):
            evidence.nats(game.model(coalition))
            show(number, f"{evidence.merged} merged")


def _shapley(evidence: DomainEvidence, game: Game, design: Design, asked: AblationRequest) -> ShapleyValues:
    values = game.values(design.coalitions, evidence)
    nats = np.stack([evidence.nats(game.model(coalition)) for coalition in design.coalitions])
    draws = draw_documents(evidence.table, np.random.default_rng(asked.noise.seed))
    drawn = np.moveaxis(-resampled(evidence.goal, evidence.table, nats, draws), 0, 1)
    estimate = _over_partitions(game, design.estimate(values))
    again = np.moveaxis(_over_partitions(game, design.estimate(drawn)), 1, 0)
    errors = spread(draws, evidence.goal, evidence.table, again)
    stable = [stability(estimate[:, c], again[:, :, c]) for c in range(estimate.shape[1])]
    sampling = _over_partitions(game, design.standard_errors(values))
    contributions = Contributions(estimate, errors)
    return ShapleyValues(asked.game, design.method, design.exact, contributions, sampling, design.confident, stable)


def _over_partitions(game: Game, of_players: Floats) -> Floats:
    """Give every partition a row (K, ...); zeros if it is no player."""
    whole = np.zeros((len(game.whole.names), *of_players.shape[1:]))
    whole[[game.whole.names.index(name) for name in game.players]] = of_players
    return whole


def _interactions(evidence: DomainEvidence, game: Game, design: Design, names: tuple[str, ...]) -> Interactions:
    """Take the index of all coalitions if enumerated, else a quadratic over all merges."""
    if isinstance(design, Enumeration) and game.players == names:
        return shapley_interactions(design, game.values(design.coalitions, evidence)[:, 0])
    mixtures = [mixture.over(names) for mixture in evidence.mixtures]
    return scheffe_interactions(mixtures, np.array([evidence.values(mixture)[0] for mixture in mixtures]))


def _worst_mixture(space: CappedSimplex, study: optuna.Study, evidence: DomainEvidence) -> Mixture:
    """Climb from the worst of the space's corners and the study's trials while the loss rises.

    A convex loss is highest at a corner; the climb is for losses not quite convex.
    """
    candidates = [space.project(Mixture.vertex(space.names, name).array) for name in space.names]
    full = in_full(completed_trials(study))
    if full:
        candidates.append(space.mixture_of(max(full, key=value_of)))
    worst = max(candidates, key=lambda mixture: float(evidence.values(mixture)[0]))
    for _ in range(STEPS):
        higher = _step(space, evidence, worst)
        if higher.digest == worst.digest or evidence.values(higher)[0] <= evidence.values(worst)[0]:
            break
        worst = higher
    return worst


def _step(space: CappedSimplex, evidence: DomainEvidence, mixture: Mixture) -> Mixture:
    slopes = evidence.goal_slopes(mixture)
    if slopes is None or np.ptp(slopes) == 0:
        return mixture
    return space.project(mixture.array + 2 * FIRST_MOVE / np.ptp(slopes) * slopes)
