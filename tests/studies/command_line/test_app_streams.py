"""Every verb, really run, with standard output or error closed, full, or of few characters: never a traceback."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forks, Said, forks
from verbs import ENTRIES, REMEMBERING, all_verbs, prepare, words_of

VERBS = [verb for verb in ENTRIES if verb != "demo"]
"""The demo takes minutes: here it meets a closed output alone."""
OFTEN = ("pool show", "best")
TIMED = ("bench", "search", "worker", "pool add", "dashboard")
"""Beginnings of verbs whose answer differs from run to run: timings, counts of merges, free ports."""
FULL = "/dev/full"


@pytest.fixture(scope="module")
def root(built_root: Path, forked: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "root"
    shutil.copytree(built_root, folder)
    prepare(folder, forked)
    return folder


@pytest.fixture(scope="module")
def with_many_characters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("utf-8"), PYTHONUTF8="1") as started:
        yield started


def _until(verb: str) -> str | None:
    return "Ctrl-C" if verb == "dashboard" else None


def _run_before(verb: str, forked: Forks, root: Path, new: Path) -> None:
    """Run what a verb stands on, and a verb that counts its merges: nothing is left to merge then."""
    for one in ["fidelity"] * (verb == "predict") + [verb] * (verb in REMEMBERING):
        assert forked.run(*words_of(one, root, new)).code == 0


def _words(answer: str) -> list[str]:
    """What an answer says, without its lines and the widths of its columns."""
    return re.findall(r"[\w.,%()]+", re.sub(r"/\S+|\+-|\.\.\.|…", " ", answer))


def _says_one_thing(said: Said, line: str) -> None:
    """One line after the progress, if any."""
    assert said.code == 1 and said.out == "" and "Traceback" not in said.err and "Exception" not in said.err, said.err
    assert said.err.splitlines()[-1].startswith(line) and said.err.count("mixscout: ") == 1


def test_every_verb_has_an_entry() -> None:
    assert sorted(" ".join(words) for words in all_verbs()) == sorted(ENTRIES)


@pytest.mark.parametrize("err", ["", None, pytest.param(FULL, marks=pytest.mark.long)], ids=["", "closed", "full"])
def test_a_closed_output_is_one_line_before_any_work(
    err: str | None, forked: Forks, root: Path, tmp_path: Path
) -> None:
    for verb in ENTRIES:
        said = forked.run(*words_of(verb, root, tmp_path), out=None, err=err)
        if err == "":
            _says_one_thing(said, "mixscout: standard output is closed, and the answer would be lost")
            assert len(said.err.splitlines()) == 1
        assert (said.code, list(tmp_path.iterdir())) == (1, []), verb


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=[] if verb in OFTEN else pytest.mark.long) for verb in VERBS]
)
def test_a_verb_answers_in_few_characters_and_a_full_stream_is_one_line(
    verb: str, forked: Forks, root: Path, tmp_path: Path
) -> None:
    _run_before(verb, forked, root, tmp_path)
    few = forked.run(*words_of(verb, root, tmp_path), until=_until(verb))
    assert few.code == 0, few.err
    for text in (few.out, few.err):
        assert text.isascii() and "\\" not in text and "Traceback" not in text, text
    assert few.out
    _says_one_thing(
        forked.run(*words_of(verb, root, tmp_path), out=FULL), "mixscout: standard output: No space left on device"
    )
    assert forked.run(*words_of(verb, root, tmp_path), out=FULL, err=FULL).code == 1
    for err in (FULL, None):
        deaf = forked.run(*words_of(verb, root, tmp_path), err=err, until=_until(verb))
        assert deaf.code == 0 and deaf.out
        assert verb.startswith(TIMED) or _words(deaf.out) == _words(few.out)


@pytest.mark.long
@pytest.mark.parametrize("verb", [verb for verb in VERBS if not verb.startswith(TIMED)])
def test_an_answer_in_few_characters_is_the_right_one(
    verb: str, forked: Forks, with_many_characters: Forks, root: Path, tmp_path: Path
) -> None:
    _run_before(verb, forked, root, tmp_path)
    few, many = (one.run(*words_of(verb, root, tmp_path)) for one in (forked, with_many_characters))
    assert _words(few.out) == _words(many.out.replace("±", "+-"))
    places = re.compile(rf"{tmp_path}/\d+")
    assert many.code == 0 and many.out.isascii() == (places.sub("NEW", few.out) == places.sub("NEW", many.out))
