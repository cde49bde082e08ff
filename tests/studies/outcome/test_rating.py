"""Preferences from raters' files: counted by prompts, with Wilson's interval, from files as people save them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pool.errors import ConfigError, StudyError
from studies.outcome.rating import Preference, find_ratings
from studies.outcome.samples import BEST, Continued, Measured, Samples, read_samples

PROMPTS = 12
WRITERS = {"A": "uniform", "B": BEST}


def _prompt(at: int) -> Continued:
    ids = {"A": f"u{at}", "B": f"b{at}"}
    return Continued(f"law-{at}", "law", "The", "end", {"A": "one", "B": "two"}, WRITERS, ids)


SAMPLES = Samples(
    "tiny", {"code": 1.0}, 0, PROMPTS, 4, ["uniform", BEST], list(map(_prompt, range(PROMPTS))), {BEST: Measured()}
)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def rated(scores: Mapping[str, object], name: str = "ann.csv", separator: str = ",") -> Path:
        lines = [separator.join(("sample", "score")), *(f"{one}{separator}{score}" for one, score in scores.items())]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return rated


def _scores(mine: Sequence[object], others: Sequence[object]) -> dict[str, object]:
    found = {f"b{at}": score for at, score in enumerate(mine)}
    return {**found, **{f"u{at}": score for at, score in enumerate(others)}}


def _preference(*files: Path) -> Preference:
    (found,) = find_ratings(SAMPLES, files).preferences
    return found


def test_a_preference_is_the_share_of_decided_prompts_with_wilson_s_interval(write: Write) -> None:
    found = _preference(write(_scores([2] * 8 + [1, 1, 1, ""], [1] * 8 + [2, 2, 1, 5])))
    assert (found.contender, found.other) == (BEST, "uniform")
    assert (found.better, found.worse, found.ties) == (8, 2, 1), "a prompt with one score counts for nothing"
    assert (found.share, found.low, found.high) == pytest.approx((0.8, 0.4901625, 0.9433178))
    assert not found.told_apart and found.verdict == "cannot be told"


@pytest.mark.parametrize(("mine", "verdict"), [(3, "preferred"), (1, "NOT preferred")])
def test_a_preference_beyond_chance_has_its_side(write: Write, mine: int, verdict: str) -> None:
    found = _preference(write(_scores([mine] * 12, [2] * 12)))
    assert found.told_apart and found.verdict == verdict


def test_ties_alone_leave_the_preference_open(write: Write) -> None:
    found = _preference(write(_scores([2] * 12, [2] * 12)))
    assert found.ties == 12 and math.isnan(found.share) and found.verdict == "cannot be told"


def test_more_raters_make_no_prompt_count_twice(write: Write) -> None:
    ann = write(_scores([5, 5, 1], [1, 1, 1]), "ann.csv")
    bob = write(_scores([1, 1, 1], [2, 9, 1]), "bob.csv")
    found = find_ratings(SAMPLES, [ann, bob])
    (one,) = found.preferences
    assert (one.better, one.worse, one.ties) == (1, 1, 1), "their scores are averaged first"
    assert (found.raters, found.rated, found.texts) == (2, 6, 24)
    assert found.means == pytest.approx({"uniform": 15 / 6, BEST: 14 / 6})


def test_a_spreadsheet_s_semicolons_and_decimal_commas_are_read(write: Write) -> None:
    found = find_ratings(SAMPLES, [write(_scores(["3,5"], ["3,25"]), separator=";")])
    assert found.means == {"uniform": 3.25, BEST: 3.5} and found.preferences[0].better == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"b0": "good"}, "line 2: a score is a number, higher for better: got 'good'"),
        ({"b0": "nan"}, "line 2: a score is a number, higher for better: got 'nan'"),
        ({"b0": 1, "x9": 2}, "line 3: 'x9' is no text of study 'tiny' as it was sampled last; rate the file"),
        ({"b0": "", "u0": ""}, "no text has a score yet; write a number under `score` for each"),
    ],
)
def test_a_file_that_cannot_be_judged_is_named_with_its_line(
    write: Write, scores: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        find_ratings(SAMPLES, [write(scores)])
    assert "ann.csv" in str(caught.value)


def test_a_text_twice_and_a_missing_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("sample,score\nb0,1\nb0,2\n")
    with pytest.raises(ConfigError, match="line 3: text 'b0' is in line 2 too; keep one of them"):
        find_ratings(SAMPLES, [tmp_path / "twice.csv"])
    (tmp_path / "bare.csv").write_text("sample,points\nb0,1\n")
    with pytest.raises(ConfigError, match="has no column 'score': it has sample, points; rate the file"):
        find_ratings(SAMPLES, [tmp_path / "bare.csv"])


def test_a_missing_or_foreign_key_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="key.json: no such file.*run `mixscout samples`"):
        read_samples(tmp_path / "key.json")
    (tmp_path / "key.json").write_text("{}")
    with pytest.raises(StudyError, match="is no key of samples .*run `mixscout samples`"):
        read_samples(tmp_path / "key.json")
