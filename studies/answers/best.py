"""The verb `best`: the best mixture of a study beside the obvious baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import optuna

from objectives.scoring.paired import PairedDifference
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from pool.tokens.tokenizer import load_tokenizer
from search.trials import Counts, count_trials
from studies.answers.ages import doubts_of_ages
from studies.answers.score import FrontPoint, Json, Score, paired_json, pareto_front, score_of
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import REFINED, best_mixture, prior_mixtures
from studies.terminal import as_html

if TYPE_CHECKING:
    from objectives.scoring.diversity import Diversity

SAMPLED_TEXTS = 48
PROMPT_TOKENS = 8
SAMPLING_SEED = 0


@dataclass(frozen=True)
class Standing:
    """One contender; `mixture` is None for the seed.

    feasible: inside the study's space; a baseline need not be
    behind: value less the best mixture's, by split; empty for the best itself
    downstream: error on tasks, where minimised
    """

    mixture: Mixture | None
    scores: Mapping[Split, Score]
    feasible: bool = True
    behind: Mapping[Split, PairedDifference] = field(default_factory=dict)
    downstream: float | None = None

    def as_json(self) -> Json:
        return {
            **{split: self.scores[split].as_json() for split in SPLITS},
            "feasible": self.feasible,
            "downstream": self.downstream,
            "behind": {split: paired_json(paired) for split, paired in self.behind.items()},
        }


@dataclass(frozen=True)
class Best:
    """The best mixture, baselines, counts of trials, and the Pareto front (empty for one objective).

    refined: the mixture is the answer of `refine`, by trainings and merges, not that of merges alone.
    doubts: sentences to read before the mixture is believed.
    """

    study: str
    best: Standing
    baselines: Mapping[str, Standing]
    counts: Counts
    front: Sequence[FrontPoint] = ()
    refined: bool = False
    doubts: Sequence[str] = ()

    @property
    def mixture(self) -> Mixture:
        assert self.best.mixture is not None, "only the seed has none"
        return self.best.mixture

    def __repr__(self) -> str:
        from studies.answers.tables import weights_in_words

        loss = self.best.scores["search"].loss_nats
        return f"<mixscout.Best of {self.study!r}, search loss {loss:.4f}: {weights_in_words(self.mixture)}>"

    def _repr_html_(self) -> str:
        from studies.answers.tables import show_best

        return as_html(lambda console: show_best(console, self))

    def as_json(self) -> Json:
        return {
            "study": self.study,
            "doubts": list(self.doubts),
            "mixture": self.mixture.as_dict(),
            "refined": self.refined,
            "downstream": self.best.downstream,
            "counts": asdict(self.counts),
            **{split: self.best.scores[split].as_json() for split in SPLITS},
            "baselines": {name: standing.as_json() for name, standing in self.baselines.items()},
            "front": [
                {"mixture": point.mixture.as_dict(), "search": dict(point.by_objective), "test": dict(point.test)}
                for point in self.front
            ],
        }


def find_best(bench: Workbench, study: optuna.Study) -> Best:
    """Score the best mixture and the baselines on both splits. Raises `StudyError` without a value yet."""
    best = _standing(bench, best_mixture(bench, study), None)
    mixtures = baseline_mixtures(bench)
    baselines = {name: _standing(bench, baseline, best) for name, baseline in mixtures.items()}
    baselines["seed"] = _seed_standing(bench, best)
    objectives = list(bench.config.targets)
    front = [
        replace(point, test=dict(zip(objectives, bench.losses["test"](point.mixture).values, strict=True)))
        for point in pareto_front(study, bench.space, objectives)
    ]
    refined, doubts = REFINED in study.user_attrs, doubts_of_ages(bench, study)
    return Best(bench.config.name, best, baselines, count_trials(study), front, refined, doubts)


def baseline_mixtures(bench: Workbench) -> dict[str, Mixture]:
    """Name uniform, proportional, the single member best on the search split, and the study's mixtures from text."""
    pool, search_loss = bench.proxy.pool, bench.losses["search"]
    vertices = [Mixture.vertex(pool.names, name) for name in pool.names]
    return {
        "uniform": Mixture.uniform(pool.names),
        "proportional": pool.proportional(),
        "best_single_member": min(vertices, key=lambda vertex: search_loss(vertex).value),
        **prior_mixtures(bench),
    }


def run_diversity(bench: Workbench, best: Best) -> dict[str, Diversity]:
    """Sample texts of half a context by the same prompts and seed. Raises `ConfigError` without sacrebleu."""
    from objectives.scoring.diversity import self_bleu_of  # loads torch

    table = bench.table("test")
    windows = table.inputs[table.lengths > PROMPT_TOKENS][:SAMPLED_TEXTS]
    prompts = [row[:PROMPT_TOKENS].tolist() for row in windows]
    tokenizer = load_tokenizer(bench.proxy.pool.folder / "tokenizer")
    new_tokens = bench.proxy.pool.config.context // 2
    found = {}
    for name, standing in {"best": best.best, **best.baselines}.items():
        bench.proxy.make_resident(standing.mixture)
        model = bench.proxy.stacked.model
        found[name] = self_bleu_of(
            model, tokenizer, prompts, samples=SAMPLED_TEXTS, new_tokens=new_tokens, seed=SAMPLING_SEED
        )
    return found


def _standing(bench: Workbench, mixture: Mixture, best: Standing | None) -> Standing:
    scores = {split: score_of(bench, bench.losses[split](mixture), split) for split in SPLITS}
    downstream = bench.objective(mixture).value if bench.config.downstream else None
    return Standing(mixture, scores, bench.space.contains(mixture), _behind(scores, best), downstream)


def _seed_standing(bench: Workbench, best: Standing) -> Standing:
    scores, store = {}, bench.database.evaluations
    for split in SPLITS:
        table = bench.table(split)
        scores[split] = Score(bench.goals[split], table, bench.proxy.seed_nats(table, split, store))
    return Standing(None, scores, behind=_behind(scores, best))


def _behind(scores: Mapping[Split, Score], best: Standing | None) -> dict[Split, PairedDifference]:
    return {split: score.behind(best.scores[split]) for split, score in scores.items()} if best else {}
