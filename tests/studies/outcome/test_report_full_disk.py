"""A report, an export and their like on a disk that is really full: one line, and nothing half-written."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_table import write_small_study

SIZE = 1_048_576
LEFT = (0, 500_000)
"""Bytes that are free: the first file or a later one finds no room."""
POOL_VERBS = {
    "export": [],
    "table": [],
    "handover": ["--text"],
    "ablate": ["--output"],
    "report": ["--output"],
    "compare": ["--strategies", "random,qmc", "--seeds", "1", "--forward-equivalents", "30", "--output"],
    "fidelity": ["--mixtures", "6", "--output"],
}
"""`pool check` takes a pool file, and stands below."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a disk of a megabyte with so many bytes free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a disk")

    def fill(left: int) -> Path:
        (folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).total - left))
        return folder

    try:
        yield fill
    finally:
        subprocess.run(["umount", folder], check=True)


def _refused(answer, disk: Path) -> None:
    last = answer.err.splitlines()[-1]
    assert answer.code == 1 and not answer.out and "Traceback" not in answer.err, answer.err
    assert last.startswith("mixscout: ") and answer.err.count("mixscout: ") == 1
    assert str(disk) in last and "No space left on device; make room" in last, last
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_report_on_a_full_disk_is_one_line_and_no_folder(
    disk: Callable[[int], Path], tmp_path: Path, mixscout
) -> None:
    study = write_small_study(tmp_path)
    assert mixscout("search", study).code == 0
    for left in LEFT:
        place = disk(left)
        _refused(mixscout("report", study, "--output", place / "report"), place)


@pytest.mark.long
@pytest.mark.parametrize("verb", POOL_VERBS)
def test_what_verbs_write_on_a_full_disk_is_one_line_and_no_folder(
    verb: str, disk: Callable[[int], Path], root: Path, mixscout
) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    for left in (0, 8_000, 60_000):
        place = disk(left)
        answer = mixscout(verb, root / "study.toml", *POOL_VERBS[verb], place / "new")
        if answer.code:
            _refused(answer, place)
        else:
            shutil.rmtree(place / "new")


@pytest.mark.long
def test_a_check_of_members_on_a_full_disk_is_one_line_and_no_folder(
    disk: Callable[[int], Path], root: Path, mixscout
) -> None:
    for left in (0, 60_000):
        place = disk(left)
        _refused(mixscout("pool", "check", root / "pool.toml", "--points", 1, "--output", place / "new"), place)
