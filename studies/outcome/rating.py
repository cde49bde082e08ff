"""The verb `rate`: which texts a rater prefers, from the scores in the files of `samples`.

The unit is the prompt: raters of one prompt are averaged first, so more raters make no prompt count twice. Of prompts
where both texts are scored alike nothing is learnt, so ties are counted and left out of the preference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from pool.errors import ConfigError, StudyError
from pool.files.csv_tables import TableRow, read_csv
from studies.answers.score import Json
from studies.outcome.samples import BEST, TRAINED, Samples
from studies.terminal import plain_table

LEVEL = 0.95
SAMPLE, SCORE = "sample", "score"


@dataclass(frozen=True)
class Preference:
    """How often one contender's text is preferred to another's.

    better, worse, ties: prompts.
    share: better / (better + worse), within [low, high] at 95 % (Wilson 1927); NaN without a decided prompt.
    """

    contender: str
    other: str
    better: int
    worse: int
    ties: int
    share: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether one is preferred beyond chance."""
        return self.low > 0.5 or self.high < 0.5

    @property
    def verdict(self) -> str:
        if not self.told_apart:
            return "cannot be told"
        return "preferred" if self.low > 0.5 else "NOT preferred"


@dataclass(frozen=True)
class Ratings:
    """What raters said of a study's texts.

    means: the mean score by contender, over its rated texts.
    preferences: of the best mixture beside every other contender, and of the model trained on it.
    """

    study: str
    raters: int
    rated: int
    texts: int
    means: Mapping[str, float]
    preferences: Sequence[Preference]

    def as_json(self) -> Json:
        preferences = [{**asdict(one), "told_apart": one.told_apart} for one in self.preferences]
        return {**asdict(self), "preferences": preferences}


def find_ratings(samples: Samples, files: Sequence[Path]) -> Ratings:
    """Read raters' files of one set of texts.

    Raises `ConfigError` for a file of other texts, a score that is no number, or no score at all.
    """
    scores: dict[str, list[float]] = {}
    raters = 0
    for path in files:
        found = dict(_scores(samples, path))
        raters += bool(found)
        for sample, score in found.items():
            scores.setdefault(sample, []).append(score)
    if not scores:
        raise ConfigError(
            f"{', '.join(map(str, files))}: no text has a score yet; write a number under `score` for each, higher for "
            "better"
        )
    means = {sample: float(np.mean(some)) for sample, some in scores.items()}
    return Ratings(
        samples.study, raters, len(means), len(_places(samples)), _means(samples, means), _preferences(samples, means)
    )


def _scores(samples: Samples, path: Path) -> Iterator[tuple[str, float]]:
    table = read_csv(path, lambda columns: {SAMPLE, SCORE} <= set(columns), "text")
    missing = [name for name in (SAMPLE, SCORE) if name not in table.columns]
    if missing:
        raise ConfigError(
            f"{path} has no column {missing[0]!r}: it has {', '.join(table.columns)}; rate the file that `mixscout "
            "samples` wrote"
        )
    known, seen = _places(samples), dict[str, int]()
    for row in table.rows:
        sample, score = (row.fields[table.columns.index(name)].strip() for name in (SAMPLE, SCORE))
        if sample not in known:
            raise ConfigError(
                f"{path}: line {row.line}: {sample!r} is no text of study {samples.study!r} as it was sampled last; "
                "rate the file that `mixscout samples` wrote then, or name the key of this one with --key"
            )
        if seen.setdefault(sample, row.line) != row.line:
            raise ConfigError(
                f"{path}: line {row.line}: text {sample!r} is in line {seen[sample]} too; keep one of them"
            )
        if score:
            yield sample, _number(path, row, score)


def _number(path: Path, row: TableRow, score: str) -> float:
    try:
        number = float(score.replace(",", "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{path}: line {row.line}: a score is a number, higher for better: got {score!r}")
    return number


def _places(samples: Samples) -> dict[str, tuple[str, str]]:
    """Return prompt and contender by the id of a text."""
    return {
        sample: (one.name, one.writers[letter]) for one in samples.prompts for letter, sample in one.samples.items()
    }


def _means(samples: Samples, means: Mapping[str, float]) -> dict[str, float]:
    by_contender: dict[str, list[float]] = {name: [] for name in samples.contenders}
    for sample, (_, contender) in _places(samples).items():
        if sample in means:
            by_contender[contender].append(means[sample])
    return {name: float(np.mean(some)) for name, some in by_contender.items() if some}


def _preferences(samples: Samples, means: Mapping[str, float]) -> list[Preference]:
    pairs = [(BEST, name) for name in samples.contenders if name not in (BEST, TRAINED)]
    pairs += [(TRAINED, name) for name in samples.contenders if TRAINED in samples.contenders and name != TRAINED]
    return [_preference(samples, means, *pair) for pair in pairs]


def _preference(samples: Samples, means: Mapping[str, float], contender: str, other: str) -> Preference:
    from scipy.stats import binomtest  # takes a second

    apart = []
    for one in samples.prompts:
        by_writer = {name: means.get(one.samples[letter]) for letter, name in one.writers.items()}
        mine, others = by_writer[contender], by_writer[other]
        if mine is not None and others is not None:
            apart.append(mine - others)
    better, worse = sum(each > 0 for each in apart), sum(each < 0 for each in apart)
    share = low = high = math.nan
    if better + worse:
        tested = binomtest(better, better + worse)
        interval = tested.proportion_ci(confidence_level=LEVEL, method="wilson")
        share, low, high = float(tested.statistic), float(interval.low), float(interval.high)
    return Preference(contender, other, better, worse, len(apart) - better - worse, share, low, high)


def known_ratings(samples: Samples, csv: Path) -> Ratings | None:
    """Return what the rater's own file says; None without a score."""
    try:
        return find_ratings(samples, [csv])
    except (ConfigError, StudyError, OSError):
        return None


def show_ratings(console: Console, found: Ratings) -> None:
    """Show the preferences, and the mean scores."""
    console.print(
        f"Preferences of {found.raters} rater{'s' if found.raters > 1 else ''} of study {found.study}: {found.rated} "
        f"of {found.texts} texts have a score"
    )
    table = plain_table("", "beside", "preferred", "95 % interval", "better", "worse", "ties", "verdict", left=2)
    for one in found.preferences:
        decided = math.isfinite(one.share)
        shares = (f"{one.share:.0%}", f"{one.low:.0%} to {one.high:.0%}") if decided else ("-", "-")
        table.add_row(one.contender, one.other, *shares, *map(str, (one.better, one.worse, one.ties)), one.verdict)
    console.print(table)
    means = plain_table("", "mean score")
    for name, mean in sorted(found.means.items(), key=lambda item: -item[1]):
        means.add_row(name, f"{mean:.3f}")
    console.print(means)
