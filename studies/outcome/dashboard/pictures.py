"""The report's figures as artifacts of a study, which is how the dashboard gets to show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact

from studies.outcome.report.facts.drawing import in_style
from studies.outcome.report.facts.section import Chart

PREFIX = "mixscout-"
PNG_DPI = 130


def keep_pictures(study: optuna.Study, charts: Sequence[Chart], store: FileSystemArtifactStore) -> dict[str, str]:
    """Draw charts and keep them with the study; return their artifacts by name.

    One kept before is drawn over, so that a study does not gather pictures.
    """
    known = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    kept = {}
    with TemporaryDirectory() as folder, in_style():
        for chart in charts:
            path = Path(folder) / f"{PREFIX}{chart.name}.png"
            chart.draw().savefig(path, dpi=PNG_DPI)
            if path.name in known:
                kept[chart.name] = known[path.name]
                with path.open("rb") as picture:
                    store.write(kept[chart.name], picture)
            else:
                kept[chart.name] = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
    return kept
