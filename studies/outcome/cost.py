"""The verb `cost`: what a study has cost, part by part, and what other ways to its answer would have cost.

FLOPs are 6 N D for D trained tokens and 2 N D for D scored ones (Kaplan et al. 2020, arXiv 2001.08361, section 2.1);
a score with its gradient counts as a training. N counts all parameters, unlike there: the embedding is much of a small
model, and is its head too. Left out is the sum of members, about 2 N K for each merge.

Other ways: RegMix trains 512 models of 1M parameters on 1B tokens (Liu et al. 2024, arXiv 2407.01492). Olmix's swarms
are models of 30M parameters on 3B tokens, their number linear in the partitions (Chen et al. 2026, arXiv 2602.12237).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from functools import reduce
from operator import add

import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives.evaluation import FORWARDS_PER_GRADIENT
from objectives.merging.rules import USUAL_EXPONENTS
from pool.checkpoints.manifest import WEIGHTS, CheckpointManifest, count_parameters
from pool.corpus.corpus import SPLITS
from pool.errors import NotRememberedError, StudyError
from pool.files.records import read_record
from pool.mixture import Mixture, html_table
from pool.parts.layout import POOL_RECORD, SEED
from pool.parts.store import PoolManifest
from search.trials import CACHED, GRADIENT, IMPORTED, PROCESSOR_SECONDS, SECONDS, TOKENS_READ, finished_trials, in_full
from studies.answers.score import Json
from studies.assessment.fidelity.fidelity import rules_with
from studies.assessment.fidelity.readings import Instruments
from studies.assessment.fidelity.truths import TrainedModel, read_models, trained_models
from studies.database.evaluations import Cost
from studies.opened.on_pool import Workbench
from studies.opened.on_table import SwarmBench
from studies.opened.opened_study import OpenedStudy, refinement_of
from studies.opened.opening import open_privately, open_to_read
from studies.study_file.study_file import StudyFile

TRAINED, SCORED = 6, 2
"""FLOPs for each parameter and token."""
REGMIX_RUNS = 512
HOUR = 3600.0
OUTSIDE = "Outside the bill: Python's start, preparation of text, students, and verbs that remember no merges."


@dataclass(frozen=True)
class Part:
    """One part of a bill.

    trainings, merges: models trained, and mixtures scored
    seconds: wall time
    processor_seconds: None where not recorded; wall time then stands in its place
    gpu_seconds: wall time times GPUs
    """

    trainings: int = 0
    merges: int = 0
    trained_tokens: int = 0
    scored_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    processor_seconds: float | None = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Part) -> Part:
        names, processor = [one.name for one in fields(self)], "processor_seconds"
        sums = {name: getattr(self, name) + getattr(other, name) for name in names if name != processor}
        return Part(**sums, processor_seconds=_sum([self.processor_seconds, other.processor_seconds]))

    @property
    def billed_seconds(self) -> float:
        """Time of GPUs where there is any, else of processors, else wall time."""
        return self.gpu_seconds or (self.seconds if self.processor_seconds is None else self.processor_seconds)


@dataclass(frozen=True)
class Way:
    """A way to the same answer; what is not known is None."""

    name: str
    trainings: int
    flops: float | None = None
    billed_seconds: float | None = None


PUBLISHED = (
    Way("RegMix's swarm, as published", REGMIX_RUNS, TRAINED * 1e6 * 1e9 * REGMIX_RUNS),
    Way("one run of Olmix's swarm, as published", 1, TRAINED * 30e6 * 3e9),
)


@dataclass(frozen=True)
class Bill:
    """What a study has cost.

    parameters: N of each model; None on a table
    decisions: mixtures judged by a value
    ways: this study first, then others
    """

    study: str
    parameters: int | None
    parts: Mapping[str, Part]
    decisions: int
    ways: Sequence[Way]
    notes: Sequence[str]
    price_per_hour: float | None = field(default=None, kw_only=True)

    @property
    def total(self) -> Part:
        return reduce(add, self.parts.values(), Part())

    @property
    def billed_seconds(self) -> float:
        return math.fsum(part.billed_seconds for part in self.parts.values())

    @property
    def seconds_per_merge(self) -> float | None:
        search = self.parts["search"]
        return search.seconds / search.merges if search.merges else None

    @property
    def trainings_per_decision(self) -> float | None:
        return self.total.trainings / self.decisions if self.decisions else None

    def price(self, seconds: float | None) -> float | None:
        """Return the price of a time; None where one of both is not known."""
        return None if seconds is None or self.price_per_hour is None else seconds / HOUR * self.price_per_hour

    def as_json(self) -> Json:
        def priced(content: Json, billed: float | None) -> Json:
            money = {"price": self.price(billed)} if self.price_per_hour is not None else {}
            return {**content, "billed_seconds": billed, **money}

        return {
            "study": self.study,
            "parameters": self.parameters,
            "parts": {name: priced(asdict(part), part.billed_seconds) for name, part in self.parts.items()},
            "total": priced(asdict(self.total), self.billed_seconds),
            "decisions": self.decisions,
            "seconds_per_merge": self.seconds_per_merge,
            "trainings_per_decision": self.trainings_per_decision,
            "ways": [priced(asdict(way), way.billed_seconds) for way in self.ways],
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        hours = {name: f"{part.billed_seconds / HOUR:.3g}" for name, part in self.parts.items()}
        return html_table("billed hours", {**hours, "total": f"{self.billed_seconds / HOUR:.3g}"})


def run_cost(config: StudyFile, *, swarm: int = REGMIX_RUNS, price_per_hour: float | None = None) -> Bill:
    """Find the bill of a study file, searched or not; nothing is written. Raises a `MixscoutError`."""
    with ExitStack() as stack:
        try:
            bench = stack.enter_context(open_to_read(config))
        except (StudyError, NotRememberedError):  # not begun
            bench = stack.enter_context(open_privately(config))
        return find_bill(bench, swarm=swarm, price_per_hour=price_per_hour)


def find_bill(bench: OpenedStudy, *, swarm: int = REGMIX_RUNS, price_per_hour: float | None = None) -> Bill:
    """Add up the records of a study, and set the sum beside a swarm of so many models, and other ways."""
    begun = bench.config.name in optuna.get_all_study_names(bench.database.optuna)
    trials = finished_trials(bench.known_study()) if begun else []
    own = [trial for trial in trials if IMPORTED not in trial.user_attrs]
    found = _on_pool(bench, own) if isinstance(bench, Workbench) else _on_table(bench, own)
    notes = [*found.notes, *_notes(found.parts, own, taken_over=len(trials) - len(own))]
    bill = replace(found, decisions=sum(trial.state is TrialState.COMPLETE for trial in own), notes=notes)
    ours = Way("this study", bill.total.trainings, bill.total.flops or None, bill.billed_seconds)
    return replace(bill, ways=[ours, *_other_ways(bench, bill, swarm)], price_per_hour=price_per_hour)


def _on_pool(bench: Workbench, own: Sequence[FrozenTrial]) -> Bill:
    pool = bench.proxy.pool
    manifest = read_record(pool.folder / POOL_RECORD, PoolManifest)  # a view at an age knows of fewer tokens
    size = count_parameters(pool.folder / SEED / WEIGHTS)
    parts = {"seed": _trained([manifest.seed], size), "members": _trained(manifest.members.values(), size)}
    parts["search"] = _searched(own, size)
    refined, instruments = _refined(bench), Instruments.of(bench)
    models = read_models(instruments, trained_models(pool))
    for verb in ("confirm", "fidelity", "refine"):
        if some := [one.manifest for one in models if _verb(one, refined) == verb]:
            parts[verb] = _trained(some, size)
    read = [*models, *read_models(instruments, manifest.members.values())]
    scores = [*_other_merges(bench, own), *(score for one in read for score in one.scores)]
    parts["other scores"] = _scored(scores, size)
    given = {"the seed": manifest.seed, **{f"member {name!r}": one for name, one in manifest.members.items()}}
    notes = [f"{name} was trained elsewhere, and costs nothing here." for name, one in given.items() if one.imported]
    notes.append("Seed and members serve every study on this pool; each of them bills them in full.")
    return Bill(bench.config.name, size, parts, 0, [], notes)


def _on_table(bench: OpenedStudy, own: Sequence[FrozenTrial]) -> Bill:
    assert isinstance(bench, SwarmBench), "the other kind of study"
    notes = [f"The {len(bench.swarm.table.runs)} models of the table were trained elsewhere, and cost nothing here."]
    return Bill(bench.config.name, None, {"search": _searched(own, 0)}, 0, [], notes)


def _sum(values: Iterable[float | None]) -> float | None:
    listed = list(values)
    return None if None in listed else math.fsum(filter(None, listed))


def _trained(manifests: Iterable[CheckpointManifest], size: int) -> Part:
    own = [one for one in manifests if one.imported is None]
    tokens = sum(one.tokens or 0 for one in own)
    return Part(
        trainings=len(own),
        trained_tokens=tokens,
        flops=float(TRAINED * size * tokens),
        seconds=math.fsum(one.seconds for one in own),
        processor_seconds=_sum(one.processor_seconds for one in own),
        gpu_seconds=math.fsum(one.gpu_seconds or 0.0 for one in own),
    )


def _searched(own: Sequence[FrozenTrial], size: int) -> Part:
    """Add up a search: proposals and judgements cost time, and merges tokens too."""
    merged = [one for one in own if one.state is not TrialState.PRUNED and not one.user_attrs.get(CACHED)]
    tokens = [one.user_attrs.get(TOKENS_READ, 0) for one in merged]
    forwards = [FORWARDS_PER_GRADIENT if GRADIENT in one.user_attrs else 1 for one in merged]
    return Part(
        merges=len(merged),
        scored_tokens=sum(tokens),
        flops=float(SCORED * size * sum(map(math.prod, zip(tokens, forwards, strict=True)))),
        seconds=math.fsum(one.user_attrs.get(SECONDS, 0.0) for one in own),
        processor_seconds=_sum(one.user_attrs.get(PROCESSOR_SECONDS) for one in own),
    )


def _scored(costs: Sequence[Cost], size: int) -> Part:
    read = sum(one.tokens_read * (FORWARDS_PER_GRADIENT if one.with_gradient else 1) for one in costs)
    return Part(
        merges=len(costs),
        scored_tokens=sum(one.tokens_read for one in costs),
        flops=float(SCORED * size * read),
        seconds=math.fsum(one.seconds for one in costs),
        processor_seconds=None if costs else 0.0,
    )


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


def _other_ways(bench: OpenedStudy, bill: Bill, swarm: int) -> list[Way]:
    counts = {f"a swarm of {swarm:,} models": swarm, "a model of every subset": 2 ** len(bench.space.names) - 1}
    if not isinstance(bench, Workbench):
        return [Way(name, count) for name, count in counts.items()]
    recipe, context = bench.proxy.pool.config.recipe, bench.proxy.pool.config.context
    seed, members, ways = bill.parts["seed"], bill.parts["members"], list[Way]()
    run = float(TRAINED * (bill.parameters or 0) * recipe.windows(context) * context)
    each = members.billed_seconds / members.trainings if members.trainings else math.nan
    for name, count in counts.items():
        times = count if count.bit_length() < 1000 else math.inf  # no float holds a larger count
        seconds = seed.billed_seconds + times * each if members.trainings else None
        ways.append(Way(f"{name}, from this seed", count + seed.trainings, seed.flops + times * run, seconds))
    return [*ways, *PUBLISHED]


def _notes(parts: Mapping[str, Part], own: Sequence[FrozenTrial], *, taken_over: int) -> list[str]:
    recalled = sum(bool(one.user_attrs.get(CACHED)) for one in own)
    unrecorded = ", ".join(name for name, part in parts.items() if part.processor_seconds is None)
    told = {
        f"{recalled} mixtures of the search were remembered from other studies or verbs; what several share is counted "
        "once, under other scores.": recalled,
        f"{taken_over} evaluations were taken over as evidence, and cost nothing here.": taken_over,
        f"Processor time is not recorded of: {unrecorded}; wall time is billed there.": unrecorded,
    }
    return [*(note for note, holds in told.items() if holds), OUTSIDE]
