"""What is recorded of a study: its trainings and its scored mixtures, each once, under the part that it belongs to.

FLOPs are 6 N D for D trained tokens and 2 N D for D scored ones (Kaplan et al. 2020, arXiv 2001.08361, section 2.1);
a score with its gradient counts as a training. N counts all parameters, unlike there: the embedding is much of a small
model, and is its head too. Left out are the sum of members, about 2 N K for each merge, and a teacher's passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives.evaluation import FORWARDS_PER_GRADIENT
from objectives.merging.rules import USUAL_EXPONENTS
from pool.checkpoints.manifest import WEIGHTS, CheckpointManifest, count_parameters
from pool.corpus.corpus import SPLITS
from pool.files.names import as_typed
from pool.files.records import MANIFEST, read_record
from pool.mixture import Mixture
from pool.parts.layout import MEMBERS
from pool.parts.store import PoolManifest
from search.trials import (
    CACHED,
    ENDED_UNIX,
    GRADIENT,
    IMPORTED,
    PROCESSOR_SECONDS,
    SECONDS,
    TOKENS_READ,
    finished_trials,
    in_full,
)
from studies.assessment.fidelity.fidelity import rules_with
from studies.assessment.fidelity.readings import Instruments
from studies.assessment.fidelity.truths import TrainedModel, read_models, trained_models
from studies.database.evaluations import Cost
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import MODELS, refinement_of
from studies.outcome.cost.bill import Part

TRAINED, SCORED = 6, 2
"""FLOPs for each parameter and token."""


@dataclass(frozen=True)
class Item:
    """A training or a score as it was recorded; `ended_unix` is its end in Unix seconds, None where not recorded."""

    part: Part
    ended_unix: float | None


Items = Mapping[str, Sequence[Item]]
"""Items by the part of the bill."""


def sum_of(items: Iterable[Item]) -> Part:
    return reduce(add, (item.part for item in items), Part())


def items_on_pool(bench: Workbench, manifest: PoolManifest, own: Sequence[FrozenTrial], size: int) -> Items:
    """List what was trained and scored for a study on a pool, `own` its trials, of models with `size` parameters."""
    pool, refined, instruments = bench.proxy.pool, _refined(bench), Instruments.of(bench)
    found = {"seed": _trained([manifest.seed], size), "members": _trained(manifest.members.values(), size)}
    found["search"] = searched(own, size)
    models = read_models(instruments, trained_models(pool))
    for verb in ("confirm", "fidelity", "refine"):
        found[verb] = _trained([one.manifest for one in models if _verb(one, refined) == verb], size)
    known = {one.manifest.weights_digest for one in models}
    for verb, called in (("ablate", "ablate --factors"), ("distill", "distill")):
        noted = [(folder, one) for folder, one in _noted_models(bench, verb) if one.weights_digest not in known]
        found[called] = [_training(one, count_parameters(folder / WEIGHTS)) for folder, one in noted]
    read = [*models, *read_models(instruments, manifest.members.values())]
    scores = [*_other_merges(bench, own), *(score for one in read for score in one.scores)]
    found["other scores"] = [_scored(one, size) for one in scores]
    always = ("seed", "members", "search", "other scores")
    return {name: items for name, items in found.items() if items or name in always}


def _trained(manifests: Iterable[CheckpointManifest], size: int) -> list[Item]:
    return [_training(one, size) for one in manifests if one.imported is None]


def _training(made: CheckpointManifest, size: int) -> Item:
    tokens = made.tokens or 0
    part = Part(
        trainings=1,
        trained_tokens=tokens,
        flops=float(TRAINED * size * tokens),
        seconds=made.seconds,
        processor_seconds=made.processor_seconds,
        gpu_seconds=made.gpu_seconds or 0.0,
    )
    return Item(part, made.trained_unix)


def searched(own: Iterable[FrozenTrial], size: int) -> list[Item]:
    """List the trials of a search: proposals and judgements cost time, and merges tokens too."""
    return [_trial(one, size) for one in own]


def _trial(one: FrozenTrial, size: int) -> Item:
    told = one.user_attrs
    merged = one.state is not TrialState.PRUNED and not told.get(CACHED)
    tokens = told.get(TOKENS_READ, 0) if merged else 0
    forwards = FORWARDS_PER_GRADIENT if GRADIENT in told else 1
    part = Part(
        merges=int(merged),
        scored_tokens=tokens,
        flops=float(SCORED * size * tokens * forwards),
        seconds=told.get(SECONDS, 0.0),
        processor_seconds=told.get(PROCESSOR_SECONDS),
    )
    return Item(part, told.get(ENDED_UNIX))


def _scored(cost: Cost, size: int) -> Item:
    read = cost.tokens_read * (FORWARDS_PER_GRADIENT if cost.with_gradient else 1)
    part = Part(
        merges=1,
        scored_tokens=cost.tokens_read,
        flops=float(SCORED * size * read),
        seconds=cost.seconds,
        processor_seconds=cost.processor_seconds,
    )
    return Item(part, cost.ended_unix)


def _other_merges(bench: Workbench, own: Sequence[FrozenTrial]) -> list[Cost]:
    """List the merges of the study's losses on both splits, by any rule, beside those of its own trials."""
    instruments, store = Instruments.of(bench), bench.database.evaluations
    rules = rules_with(instruments, USUAL_EXPONENTS).values()
    digests = {instruments.proxy_loss(split, rule).digest for split in SPLITS for rule in rules}
    digests |= {loss.digest for loss in bench.losses.values()}
    merged = (one for one in in_full(own) if one.state is TrialState.COMPLETE and not one.user_attrs.get(CACHED))
    billed = {(bench.objective.digest, bench.space.mixture_of(one).digest) for one in merged}
    found = {digest: store.costs(digest) for digest in sorted({*digests, bench.objective.digest})}
    return [cost for digest, costs in found.items() for one, cost in costs.items() if (digest, one) not in billed]


def _verb(model: TrainedModel, refined: set[str]) -> str:
    """Name the verb that trained a model; `fidelity` where neither of the others did."""
    if model.confirmed:
        return "confirm"
    return "refine" if Mixture.of(model.manifest.mixture).digest in refined else "fidelity"


def _refined(bench: Workbench) -> set[str]:
    name, storage = refinement_of(bench.config.name), bench.database.optuna
    known = name in optuna.get_all_study_names(storage)
    trials = finished_trials(optuna.load_study(storage=storage, study_name=name)) if known else []
    mixtures = [bench.space.mixture_of(one) for one in trials if IMPORTED not in one.user_attrs]
    return {bench.proxy.pool.unit_mixture(one).digest for one in mixtures}


def _noted_models(bench: Workbench, verb: str) -> list[tuple[Path, CheckpointManifest]]:
    """Read the records of models that a verb noted in the study, where they are there; members are none of them."""
    if bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return []
    noted = bench.known_study().user_attrs.get(MODELS, {}).get(verb, ())
    folders = [bench.proxy.pool.folder / one for one in noted if Path(one).parts[0] != MEMBERS]
    again = "and the command that trained it"
    return [
        (one, read_record(one / MANIFEST, CheckpointManifest, f"run `rm -r {as_typed(one)}`, {again}"))
        for one in folders
        if (one / MANIFEST).is_file()
    ]
