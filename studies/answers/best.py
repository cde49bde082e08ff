"""The verb `best`: the best mixture of a study beside the obvious baselines, on the search and the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import optuna

from objectives.evaluation import Evaluation
from objectives.scoring.paired import PairedDifference, paired_difference
from objectives.scoring.scorer import Scorer
from pool.corpus.corpus import SPLITS, Split
from pool.mixture import Mixture
from search.trials import Counts, count_trials
from studies.answers.score import Json, Score
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import best_mixture


@dataclass(frozen=True)
class Standing:
    """One contender: its mixture (None for the seed, which is none) and its scores on both splits.

    `feasible` says whether the study's space allows it; a baseline need not be. `behind` is by how much it is worse
    than the best mixture on the same documents, by split. `downstream` is its error on the tasks of a study that
    minimises it.
    """

    mixture: Mixture | None
    search: Score
    test: Score
    feasible: bool = True
    behind: Mapping[Split, PairedDifference] = field(default_factory=dict)
    downstream: float | None = None

    def on(self, split: Split) -> Score:
        """Return the score on a split."""
        return self.search if split == "search" else self.test


@dataclass(frozen=True)
class FrontPoint:
    """A mixture that no other evaluated one beats in every objective; its values by objective on both splits."""

    mixture: Mixture
    search: Mapping[str, float]
    test: Mapping[str, float]


@dataclass(frozen=True)
class Best:
    """The best mixture of a study, the baselines by name, and where the proposals went.

    `front` is the Pareto front of a study of several objectives, else empty.
    """

    study: str
    best: Standing
    baselines: Mapping[str, Standing]
    counts: Counts
    front: Sequence[FrontPoint] = ()

    def as_json(self) -> Json:
        """Give the object that `best --json` prints."""
        assert self.best.mixture is not None
        return {
            "study": self.study,
            "mixture": self.best.mixture.as_dict(),
            "downstream": self.best.downstream,
            "counts": asdict(self.counts),
            "search": self.best.search.as_json(),
            "test": self.best.test.as_json(),
            "baselines": {name: _baseline_json(standing) for name, standing in self.baselines.items()},
            "front": [
                {"mixture": point.mixture.as_dict(), "search": dict(point.search), "test": dict(point.test)}
                for point in self.front
            ],
        }


def find_best(bench: Workbench, study: optuna.Study) -> Best:
    """Take the trial with the lowest search loss, and score it and the baselines on both splits.

    Raises `StudyError` when no trial has a value yet.
    """
    best = _standing(bench, best_mixture(bench, study), None)
    baselines = {name: _standing(bench, baseline, best) for name, baseline in baseline_mixtures(bench).items()}
    baselines["seed"] = _seed_standing(bench, best)
    return Best(bench.config.name, best, baselines, count_trials(study), _front(bench, study))


def baseline_mixtures(bench: Workbench) -> dict[str, Mixture]:
    """Name the obvious mixtures: uniform, token-proportional, and the single member best on the search split."""
    names = bench.pool.names
    vertices = [Mixture.vertex(names, name) for name in names]
    return {
        "uniform": Mixture.uniform(names),
        "proportional": bench.pool.proportional(),
        "best_single_member": min(vertices, key=lambda vertex: bench.search_loss(vertex).value),
    }


def score_of(bench: Workbench, evaluation: Evaluation, split: Split) -> Score:
    """Turn an evaluation on a split into a score."""
    assert evaluation.windows is not None, "reported mixtures are evaluated in full"
    table = bench.table(split)
    return Score(bench.goal(split), table, table.together(evaluation.windows))


def _standing(bench: Workbench, mixture: Mixture, best: Standing | None) -> Standing:
    search = score_of(bench, bench.search_loss(mixture), "search")
    test = score_of(bench, bench.test_loss(mixture), "test")
    feasible, behind = bench.space.contains(mixture), _behind(search, test, best)
    downstream = bench.objective(mixture).value if bench.config.downstream else None
    return Standing(mixture, search, test, feasible, behind, downstream)


def _seed_standing(bench: Workbench, best: Standing) -> Standing:
    bench.make_resident(None)

    def score(split: Split) -> Score:
        table = bench.table(split)
        nats = Scorer(bench.stacked.model, table, precision=bench.proxy.precision).score()
        return Score(bench.goal(split), table, nats)

    search, test = score("search"), score("test")
    return Standing(None, search, test, behind=_behind(search, test, best))


def _behind(search: Score, test: Score, best: Standing | None) -> dict[Split, PairedDifference]:
    if best is None:
        return {}
    pairs = zip(SPLITS, (search, test), (best.search, best.test), strict=True)
    return {split: paired_difference(mine.goal, mine.table, mine.nats, its.nats) for split, mine, its in pairs}


def _front(bench: Workbench, study: optuna.Study) -> list[FrontPoint]:
    if not bench.several:
        return []
    names = list(bench.config.targets)
    points = []
    for trial in study.best_trials:
        mixture = bench.space.mixture_of(trial)
        test = bench.test_loss(mixture).values
        search = dict(zip(names, trial.values, strict=True))
        points.append(FrontPoint(mixture, search, dict(zip(names, test, strict=True))))
    return sorted(points, key=lambda point: list(point.search.values()))


def _baseline_json(standing: Standing) -> Json:
    return {
        "search": standing.search.as_json(),
        "test": standing.test.as_json(),
        "feasible": standing.feasible,
        "downstream": standing.downstream,
        "behind": {
            split: {
                "difference": paired.difference,
                "standard_error": paired.standard_error,
                "told_apart": paired.told_apart,
            }
            for split, paired in standing.behind.items()
        },
    }
