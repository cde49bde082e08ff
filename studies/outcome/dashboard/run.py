"""Puts the dashboard of a study together: a storage of its own, our figures and note, and a server for this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore

from pool.errors import ConfigError
from search.optuna_private import id_of
from studies.database.database import storage_for_threads
from studies.opened.opened_study import OpenedStudy
from studies.opened.opening import open_to_read
from studies.outcome.dashboard.loopback import LoopbackServer, check_loopback
from studies.outcome.dashboard.note import merged_with, note_of
from studies.outcome.dashboard.pictures import keep_pictures
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.report import make_report
from studies.study_file.study_file import StudyFile

FOLDER = "dashboard"
"""Under a study's root: the pictures, which the database only names."""


@dataclass(frozen=True)
class Dashboard:
    """A server that is bound and not yet serving, and the study's own page."""

    server: LoopbackServer
    study_url: str


@contextmanager
def open_dashboard(config: StudyFile, study_file: Path, *, host: str, port: int) -> Iterator[Dashboard]:
    """Write note and pictures, and bind the server. Raises a `MixscoutError` of the thing at fault.

    The study's trials and what its samplers read are left as they are.
    """
    check_loopback(host)
    if find_spec("optuna_dashboard") is None:
        raise ConfigError("the dashboard needs optuna-dashboard: pip install 'mixscout[dashboard]'")
    from optuna_dashboard import wsgi

    with open_to_read(config) as bench, storage_for_threads(bench.database, config.database_timeout_seconds) as storage:
        study = optuna.load_study(storage=storage, study_name=config.name)
        store = _store(bench)
        server = LoopbackServer.on(host, port, wsgi(storage, artifact_store=store))  # before the work: it may be taken
        try:
            _dress(Facts.of(bench, study_file), study, store)
            yield Dashboard(server, f"{server.url}/dashboard/studies/{id_of(study)}")
        finally:
            server.server_close()


def _store(bench: OpenedStudy) -> FileSystemArtifactStore:
    folder = bench.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def _dress(facts: Facts, study: optuna.Study, store: FileSystemArtifactStore) -> None:
    from optuna_dashboard import get_note, save_note
    from optuna_dashboard.artifact import get_artifact_path

    report = make_report(facts)
    kept = keep_pictures(study, report.charts, store)
    pictures = {name: get_artifact_path(study, artifact) for name, artifact in kept.items()}
    known = get_note(study)
    note = merged_with(known, note_of(facts, report, pictures))
    if note != known:
        save_note(study, note)
