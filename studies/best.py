"""The verb `best`: the best mixture of a study beside the obvious baselines, on the search and the test split."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import optuna

from objectives.evaluation import Evaluation
from objectives.held_out import HeldOutLoss, perplexity_of
from objectives.scoring import Scorer
from objectives.target import Target
from pool.corpus import Split
from pool.errors import StudyError
from pool.mixture import Mixture
from search.trials import Counts, completed_trials, count_trials, value_of
from studies.workbench import Workbench

Json = dict[str, object]


@dataclass(frozen=True)
class Score:
    """Held-out losses of one model on one split, with the target's aggregate."""

    target: Target
    domains: Mapping[str, HeldOutLoss]

    @property
    def loss_nats(self) -> float:
        """The scalar minimised: weighted mean nats per token."""
        return self.target.loss_nats(self.domains)

    def as_json(self) -> Json:
        """Give `loss_nats`, `standard_error`, `perplexity`, `bits_per_byte` and `domains`."""
        return {
            **_figures(self.loss_nats, self.target.standard_error(self.domains)),
            "bits_per_byte": self.target.bits_per_byte(self.domains),
            "domains": {name: _domain_json(loss) for name, loss in self.domains.items()},
        }


@dataclass(frozen=True)
class Standing:
    """One contender: its mixture (None for the seed, which is none) and its scores on both splits.

    `feasible` says whether the study's space allows it; a baseline need not be.
    """

    mixture: Mixture | None
    search: Score
    test: Score
    feasible: bool = True


@dataclass(frozen=True)
class Best:
    """The best mixture of a study, the baselines by name, and where the proposals went."""

    study: str
    best: Standing
    baselines: Mapping[str, Standing]
    counts: Counts

    def as_json(self) -> Json:
        """Give the object that `best --json` prints."""
        assert self.best.mixture is not None
        counts = asdict(self.counts)
        return {
            "study": self.study,
            "mixture": self.best.mixture.as_dict(),
            "counts": counts,
            "search": self.best.search.as_json(),
            "test": self.best.test.as_json(),
            "baselines": {
                name: {
                    "search": standing.search.as_json(),
                    "test": standing.test.as_json(),
                    "feasible": standing.feasible,
                }
                for name, standing in self.baselines.items()
            },
        }


def find_best(bench: Workbench, study: optuna.Study) -> Best:
    """Take the trial with the lowest search loss, and score it and the baselines on both splits.

    Raises `StudyError` when no trial has a value yet.
    """
    mixture = best_mixture(bench, study)
    best = _standing(bench, mixture)
    baselines = {name: _standing(bench, baseline) for name, baseline in baseline_mixtures(bench).items()}
    baselines["seed"] = _seed_standing(bench)
    return Best(bench.config.name, best, baselines, count_trials(study))


def best_mixture(bench: Workbench, study: optuna.Study) -> Mixture:
    """Return the mixture of the trial with the lowest value (the first of equals). Raises `StudyError`."""
    trials = completed_trials(study)
    if not trials:
        raise StudyError(f"study {study.study_name!r} has no evaluated mixture yet; run `mixscout search` on its file")
    return bench.space.mixture_of(min(trials, key=value_of))


def baseline_mixtures(bench: Workbench) -> dict[str, Mixture]:
    """Name the obvious mixtures: uniform, token-proportional, and the single member best on the search split."""
    names = bench.pool.names
    vertices = [Mixture.vertex(names, name) for name in names]
    return {
        "uniform": Mixture.uniform(names),
        "proportional": bench.pool.proportional(),
        "best_single_member": min(vertices, key=lambda vertex: bench.search_loss(vertex).value),
    }


def _standing(bench: Workbench, mixture: Mixture) -> Standing:
    search, test = _score(bench, bench.search_loss(mixture)), _score(bench, bench.test_loss(mixture))
    return Standing(mixture, search, test, bench.space.contains(mixture))


def _score(bench: Workbench, evaluation: Evaluation) -> Score:
    return Score(bench.target, evaluation.domains)


def _seed_standing(bench: Workbench) -> Standing:
    bench.stacked.load(bench.pool.folder / "seed", "the seed")

    def score(split: Split) -> Score:
        scorer = Scorer(bench.stacked.model, bench.pool.corpus.held_out[split], bench.target)
        return Score(bench.target, scorer.score())

    return Standing(None, score("search"), score("test"))


def _figures(loss_nats: float, standard_error: float) -> Json:
    return {"loss_nats": loss_nats, "standard_error": standard_error, "perplexity": perplexity_of(loss_nats)}


def _domain_json(loss: HeldOutLoss) -> Json:
    sizes = {"tokens": loss.tokens, "bytes": loss.bytes}
    return {**_figures(loss.loss_nats, loss.standard_error), "bits_per_byte": loss.bits_per_byte, **sizes}
