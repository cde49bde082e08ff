"""The tutorial works as it stands: its commands run in order, and print and draw what it shows."""

import re
import shlex
from pathlib import Path

import pytest
from tiny import edit, write_sources

DOCS = Path(__file__).parents[3] / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

LOWERED = {
    "training_budget_tokens = 2_000_000": "training_budget_tokens = 80_000",
    "merges = 24": "merges = 6",
    "--merges 36": "--merges 8",
    "--forward-equivalents 20": "--forward-equivalents 6",
}
"""The tutorial's numbers that are too large for the tiny pool; all others are as a reader types them."""

RENAMED = {
    "corpus.partitions.code": "corpus.partitions.scientific_docstrings",
    "corpus.partitions.docs": "corpus.partitions.database_code",
    "corpus.partitions.prose": "corpus.partitions.machine_learning_docstrings",
    "corpus.held_out.licences": "corpus.held_out.language_reference",
    'name = "tiny"': 'name = "demo"',
}
"""What the tiny pool's parts are called here: as those of the demo's pool that the tutorial names."""


VERBS = [
    *("demo", "pool", "prior", "search", "worker", "refine"),
    *("best", "robustness", "ages", "confirm", "samples", "rate", "fidelity", "predict", "ablate", "compare"),
    *("export", "distill", "table", "handover", "cost", "report", "dashboard", "bench"),
]
"""From a pool to a study, to what can be believed of its answer, to what is done with it."""


def _blocks(*kinds: str) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in FENCED.findall(TUTORIAL) if kind in kinds]


def _lowered(text: str) -> str:
    for real, low in LOWERED.items():
        text = text.replace(real, low)
    return text


def _masked(line: str) -> str:
    return re.sub(r"\d[\d,.]*", "#", line).strip()


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None) -> Path:
    """A folder as `make demo` leaves it, but that the pool is a tiny one and not built yet."""
    write_sources(tmp_path)
    for real, name in RENAMED.items():
        edit(tmp_path / "pool.toml", real, name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_tutorial_works_and_prints_what_is_shown(working_folder: Path, mixscout) -> None:
    printed: list[str] = []
    for kind, text in _blocks("toml", "sh", "text"):
        if kind == "toml":
            (working_folder / text.split()[1].rstrip(":")).write_text(_lowered(text))
        elif kind == "sh":
            printed = []
            for line in text.splitlines():
                command, *arguments = shlex.split(_lowered(line), comments=True)
                assert command == "mixscout", line
                answer = mixscout(*arguments)
                assert answer.code == 0, f"{line}: {answer.err}"
                printed += map(_masked, answer.out.splitlines())
        else:
            assert _masked(text.splitlines()[0]) in printed, f"{text.splitlines()[0]!r} is not what is printed now"
    for path in re.findall(r"`((?:reports|prose-run)/[\w./-]+)`", TUTORIAL):
        assert (working_folder / path).exists(), f"the tutorial says that {path} was written"


def test_the_tutorial_s_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TUTORIAL)
    assert len(pictures) >= 4
    for picture in pictures:
        assert (DOCS / picture).stat().st_size < 100_000, picture


def test_what_the_test_lowers_is_still_in_the_tutorial() -> None:
    assert [real for real in LOWERED if real not in TUTORIAL] == []


def test_every_verb_the_tutorial_types_is_in_the_help(mixscout) -> None:
    shown = re.findall(r"^│ (\w+) ", mixscout("--help").out.partition("Commands")[2], re.MULTILINE)
    assert shown == VERBS, "the help lists every verb once, in the order of need"
    typed = {line.split()[1] for _, text in _blocks("sh") for line in text.splitlines()}
    assert typed <= set(VERBS)
    assert {"pool", "search", "best", "compare", "ablate", "fidelity", "predict", "handover", "report"} <= typed
