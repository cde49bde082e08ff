"""A search whose database or study goes away on the way: exit code 1 in one line, and no totals of what is not kept."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from small_table import write_small_study

from studies.running.run import DatabaseCrew


def _remove_file(study: Path) -> None:
    for file in study.parent.glob("mixscout.db*"):
        file.unlink()


def _remove_study(study: Path) -> None:
    optuna.delete_study(study_name="small", storage=f"sqlite:///{study.parent / 'mixscout.db'}")


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        (_remove_file, "was removed or moved while it was in use: what it held is lost to this command"),
        (_remove_study, "was removed from {folder}/mixscout.db while it was searched: its trials are lost"),
    ],
)
def test_what_is_removed_during_a_search_ends_it(
    remove: Callable[[Path], None], said: str, tmp_path: Path, mixscout, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_small_study(tmp_path)
    begin, begun = DatabaseCrew.publish, []

    def publish(crew: DatabaseCrew) -> None:
        begin(crew)
        begun.append(1)
        if len(begun) == 3:
            remove(study)

    monkeypatch.setattr(DatabaseCrew, "publish", publish)
    answer = mixscout("search", study)
    assert answer.code == 1 and answer.out == ""
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("mixscout: ") and said.format(folder=tmp_path) in last and "Traceback" not in answer.err
    if remove is _remove_file:
        assert not (tmp_path / "mixscout.db").exists()
