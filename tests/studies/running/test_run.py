"""A search whose database or study goes away on the way ends in one line; a search leaves no lease of ended trials."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from small_table import write_small_study
from sqlalchemy import insert, select

from studies.database.database import open_database
from studies.database.leases import LEASES
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


def test_leases_of_ended_trials_end_with_a_search(tmp_path: Path, mixscout) -> None:
    study = write_small_study(tmp_path)
    assert mixscout("search", study, "--merges", 4).code == 0
    lost = {"scope": "study-1", "holder": "another-machine:1:1", "expires_unix": 4e9}
    with open_database(tmp_path / "mixscout.db", timeout_seconds=10) as database, database.engine.begin() as connection:
        connection.execute(insert(LEASES), [{**lost, "item": "2"}, {**lost, "item": "999"}])
    assert mixscout("search", study, "--merges", 5).code == 0
    with open_database(tmp_path / "mixscout.db", timeout_seconds=10) as database, database.engine.begin() as connection:
        assert list(connection.scalars(select(LEASES.c.item))) == ["999"], "a trial under work keeps its lease"
