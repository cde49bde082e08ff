"""A study in the folder of another user: verbs that read answer as to the owner and write nothing; others refuse.

And a user without a home.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forks
from small_table import write_small_study
from tiny import edit, snapshot
from verbs import ENTRIES, REMEMBERING, prepare, words_of

OTHER = "nobody"
WRITERS = {
    "pool build": "pool build POOL --rebuild docs",
    "pool add": "pool add POOL docs --checkpoint GIVEN --replace",
    "search": "search STUDY --merges 9",
    "worker": "worker STUDY --merges 9",
    "refine": "refine FRESH --truths 1",
    "confirm": "confirm FRESH",
    "distill": "distill STUDY --tokens 512 --orders 2",
    "fidelity": "fidelity STUDY --mixtures 8 --output NEW",
    "compare": "compare STUDY --strategies random,qmc --seeds 1 --forward-equivalents 30",
    "demo": "demo --root ROOT",
}
"""Verbs that write, with something left to write; FRESH is a study whose best mixture was never trained."""
READERS = [verb for verb in ENTRIES if verb not in ("pool build", "pool add", "search", "worker", "refine", "demo")]
"""`confirm`, `distill`, `fidelity` and `compare` read what is remembered."""
OFTEN = ("pool show", "best", "table", "report", "search", "pool build")
NOTED = re.compile(r"database \S+ is read-only for this user; what this command computes anew is not kept\n")
HOMELESS = """
import sys
from studies.command_line.app import main

for verb in ("search", "best", "report"):
    sys.argv = ["mixscout", verb, sys.argv[-1]]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def root(built_root: Path, open_folder: Path, forked: Forks) -> Path:
    """A root with two studies, in a folder that everybody may enter."""
    folder = open_folder / "of-another"
    shutil.copytree(built_root, folder)
    prepare(folder, forked)
    shutil.copy(folder / "study.toml", fresh := folder / "fresh.toml")
    edit(fresh, 'name = "tiny"', 'name = "fresh"')
    edit(fresh, "[search]", "[space.caps]\ncode = 0.45\ndocs = 0.45\nprose = 0.45\n\n[search]")
    edit(fresh, '"uniform", "vertices"', '"proportional"')
    assert forked.run("search", fresh, "--merges", 8).code == 0
    return folder


@pytest.fixture
def outside(open_folder: Path) -> Iterator[Path]:
    """A folder in which everybody may write."""
    folder = open_folder / "outside"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _close(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def _answer(out: str, outside: Path) -> str:
    """An answer without the places that differ from run to run."""
    return re.sub(rf"{outside}/\d+|127.0.0.1:\d+", "PLACE", out)


def _marked(verbs: list[str]) -> list:
    return [pytest.param(verb, marks=[] if verb in OFTEN else pytest.mark.long) for verb in verbs]


def test_every_verb_reads_or_writes() -> None:
    assert set(READERS) | set(WRITERS) == set(ENTRIES)


@as_root
@pytest.mark.parametrize("verb", _marked(READERS))
def test_a_verb_that_reads_answers_as_to_the_owner_and_writes_nothing(
    verb: str, forked: Forks, root: Path, outside: Path
) -> None:
    until = "Ctrl-C" if verb == "dashboard" else None
    if verb == "predict":
        assert forked.run(*words_of("fidelity", root, outside)).code == 0
    own = forked.run(*words_of(verb, root, outside), until=until)
    assert own.code == 0, own.err
    if verb in REMEMBERING:
        own = forked.run(*words_of(verb, root, outside))  # now all is remembered
    _close(root)
    before, files = snapshot(root), sorted(root.rglob("*"))
    other = forked.run(*words_of(verb, root, outside), until=until, user=OTHER)
    assert other.code == 0 and "Traceback" not in other.err, other.err
    assert verb.startswith("bench") or _answer(other.out, outside) == _answer(own.out, outside)
    assert snapshot(root) == before and sorted(root.rglob("*")) == files
    assert verb.startswith("bench") or NOTED.sub("", other.err) == own.err


@as_root
@pytest.mark.parametrize("verb", _marked(list(WRITERS)))
def test_a_verb_that_writes_refuses_in_one_line(verb: str, forked: Forks, root: Path, outside: Path) -> None:
    _close(root)
    before = snapshot(root)
    line = WRITERS[verb].replace("FRESH", str(root / "fresh.toml")).replace("ROOT", str(root))
    said = forked.run(*words_of(line, root, outside), user=OTHER)
    assert said.code == 1 and not said.out and "Traceback" not in said.err, said
    assert said.err.count("mixscout: ") == 1 and said.err.splitlines()[-1].startswith("mixscout: ")
    assert re.search("may not be written|cannot be written|cannot write|ermission", said.err), said.err
    assert snapshot(root) == before


@pytest.mark.parametrize("home", ["/proc/none", pytest.param(None, marks=pytest.mark.long)])
def test_a_user_without_a_home_sees_no_warning_of_a_library(home: str | None, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "MPLCONFIGDIR")}
    ran = subprocess.run(
        [sys.executable, "-c", HOMELESS, str(write_small_study(tmp_path))],
        env=environment | ({"HOME": home} if home else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in ran.stderr.splitlines() if not line.startswith(("search small: ", "fitting tales to"))]
    assert lines == [] and "report: " in ran.stdout
