"""The verb `dashboard`: optuna-dashboard on a study, with the report's figures and a note in it.

The figures are artifacts of the study. The note is Markdown between two marks: only the text between them is replaced,
so everybody's own text stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from pool.files.whole import may_write
from search.optuna_private import id_of
from studies.answers.lettering import save
from studies.database.database import storage_for_threads
from studies.opened.opening import open_to_read
from studies.outcome.dashboard.loopback import LoopbackServer, check_installed, check_loopback
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Chart, in_style
from studies.outcome.report.report import Report, make_report
from studies.study_file.study_file import StudyFile

FOLDER = "dashboard"
"""Under a study's root: the pictures, which the database only names."""
PREFIX = "mixscout-"
PNG_DPI = 130
BEGIN, END = "[//]: # (mixscout: begin)", "[//]: # (mixscout: end)"
"""Markdown that shows nothing: the dashboard shows comments of HTML as text."""
_OURS = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)


@dataclass(frozen=True)
class Dashboard:
    """A server that is bound and not yet serving, and the study's own page."""

    server: LoopbackServer
    study_url: str


@contextmanager
def open_dashboard(config: StudyFile, study_file: Path, *, host: str, port: int) -> Iterator[Dashboard]:
    """Write note and pictures, and bind the server. Raises a `MixscoutError` of the thing at fault.

    The study's trials and its samplers' evidence stay as they are.
    """
    check_loopback(host)
    check_installed()
    from optuna_dashboard import wsgi

    wait = config.database_timeout_seconds
    with ExitStack() as stack:
        bench = stack.enter_context(open_to_read(config))
        bench.known_study()  # says in one line that there is none
        storage = stack.enter_context(storage_for_threads(bench.database, wait))
        study = optuna.load_study(storage=storage, study_name=config.name)
        folder = (
            bench.root / FOLDER if may_write(bench.root / FOLDER) else Path(stack.enter_context(TemporaryDirectory()))
        )
        folder.mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(folder)
        server = LoopbackServer.on(host, port, wsgi(storage, artifact_store=store))  # first: the port may be taken
        try:
            _dress(Facts.of(bench, study_file), study, store)
            yield Dashboard(server, f"{server.url}/dashboard/studies/{id_of(study)}")
        finally:
            server.server_close()


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


def keep_pictures(study: optuna.Study, charts: Sequence[Chart], store: FileSystemArtifactStore) -> dict[str, str]:
    """Draw charts as artifacts of the study, over those of before, and return the artifacts by the charts' names."""
    known = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    kept = {}
    with TemporaryDirectory() as folder, in_style():
        for chart in charts:
            path = Path(folder) / f"{PREFIX}{chart.name}.png"
            save(chart.draw(), path, dpi=PNG_DPI)
            if path.name in known:
                kept[chart.name] = known[path.name]
                with path.open("rb") as picture:
                    store.write(kept[chart.name], picture)
            else:
                kept[chart.name] = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
    return kept


def note_of(facts: Facts, report: Report, pictures: Mapping[str, str]) -> str:
    """Write the note; `pictures` are the addresses of the report's charts by name."""
    weights = sorted(facts.best.as_dict().items(), key=lambda item: -item[1]) if facts.best is not None else []
    mixture = "".join(f"| {name} | {weight:.4f} |\n" for name, weight in weights)
    digests = [f"- objective `{facts.bench.objective.digest}`"]
    if facts.best is not None:
        digests.append(f"- best mixture `{facts.best.digest}`")
    if facts.on_pool is not None:
        digests.append(f"- pool `{facts.on_pool.proxy.pool.manifest.digest}`")
    figures = [f"### {chart.caption}\n\n![{chart.alt}]({pictures[chart.name]})" for chart in report.charts]
    parts = [
        f"## Mixscout study {report.study}",
        report.summary,
        f"| partition | weight |\n|---|---|\n{mixture}" if mixture else "",
        "## Digests\n\n" + "\n".join(digests),
        "The parameters of a trial are a point of the cube; its mixture is the projection of that onto the simplex. "
        "The figures below show mixtures.",
        *figures,
    ]
    return "\n\n".join(part for part in parts if part)


def merged_with(known: str, ours: str) -> str:
    """Put our note in the place of the one of before, or below everybody else's text."""
    block = f"{BEGIN}\n\n{ours}\n\n{END}"
    if _OURS.search(known):
        return _OURS.sub(lambda _: block, known, count=1)
    return f"{known.rstrip()}\n\n{block}" if known.strip() else block
