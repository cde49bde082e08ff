"""Progress in trackers: what was written is read back by each tracker's own reader."""

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import edit
from wandb.proto import wandb_internal_pb2

from pool.errors import StudyError
from studies.running.trackers import TRACKERS, tracking
from studies.study_file.search_sections import TrackerName
from studies.study_file.study_file import read_study_file


def _tracked(root: Path, tracker: str) -> Path:
    edit(root / "study.toml", "[search]", f'[search]\ntracker = "{tracker}"')
    return root / "study.toml"


def test_tensorboard_events_go_on_where_the_search_goes_on(root: Path, mixscout: Callable) -> None:
    study = _tracked(root, "tensorboard")
    for merges in (5, 7):
        answer = mixscout("search", study, "--merges", merges, "--json")
        assert answer.code == 0, answer.err
    counts = json.loads(answer.out)["counts"]
    events = EventAccumulator(str(root / "reports" / "tensorboard" / "tiny"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"best", "merges", "pruned", "audited", "stopped_early", "tokens_read"}
    merged = events.Scalars("merges")
    assert [event.step for event in merged] == list(range(1, counts["merges"] + counts["pruned"] + 1))
    assert merged[-1].value == 7
    best = [event.value for event in events.Scalars("best")]
    assert best == sorted(best, reverse=True)
    found = json.loads(mixscout("best", study, "--json").out)
    assert best[-1] == pytest.approx(found["search"]["value"], rel=1e-6)


def test_mlflow_keeps_one_run_a_study(root: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = _tracked(root, "mlflow")
    for merges in (3, 5):
        answer = mixscout("search", study, "--merges", merges)
        assert answer.code == 0, answer.err
    client = MlflowClient(f"sqlite:///{root / 'reports' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mixscout-tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.metrics["merges"] == 5
    assert [one.step for one in client.get_metric_history(run.info.run_id, "best")][:5] == [1, 2, 3, 4, 5]


def _log_records(content: bytes) -> Iterator[bytes]:
    """Take a W&B file apart: a head of 7 bytes, then LevelDB's log format, in blocks of 32 KiB."""
    assert content[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(content):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a full record, or the last part of one
            yield whole
            whole = b""


def test_wandb_writes_an_offline_run(root: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("WANDB_")]:
        monkeypatch.delenv(key)
    answer = mixscout("search", _tracked(root, "wandb"), "--merges", 4)
    assert answer.code == 0, answer.err
    (path,) = (root / "reports" / "wandb").glob("offline-run-*/run-*.wandb")
    history = []
    for data in _log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append({".".join(one.nested_key) or one.key: json.loads(one.value_json) for one in items})
    assert [row["merges"] for row in history] == [1, 2, 3, 4]
    assert all(row["best"] > 0 for row in history)


def test_a_tracker_is_no_part_of_the_study_and_an_unknown_one_is_refused(root: Path, mixscout: Callable) -> None:
    assert mixscout("search", root / "study.toml", "--merges", 3).code == 0
    study = _tracked(root, "tensorboard")
    assert mixscout("search", study, "--merges", 4).code == 0, "the same study, now with a tracker"
    edit(study, "tensorboard", "abacus")
    answer = mixscout("search", study)
    assert answer.code == 1 and "tracker" in answer.err and "'tensorboard', 'mlflow' or 'wandb'" in answer.err


def test_a_tracker_that_is_not_installed_names_its_extra(
    root: Path, mixscout: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    answer = mixscout("search", _tracked(root, "wandb"))
    assert answer.code == 1
    assert answer.err.endswith("[search] tracker = 'wandb' needs wandb: pip install 'mixscout[wandb]'\n")
    assert read_study_file(root / "study.toml").search.tracker == "wandb"


def test_a_tracker_out_of_reach_is_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:gehe!m@tracker/x")

    class Away:
        def __init__(self, study: str, folder: Path) -> None:
            if study == "never":
                raise RuntimeError("no answer from http://me:gehe!m@tracker/x, port gehe!m")

        def log(self, step: int, figures: object) -> None:
            raise OSError("http://me:gehe!m@tracker/x is gone")

        def close(self) -> None: ...

    monkeypatch.setattr("studies.running.trackers.TRACKERS", {"mlflow": Away})
    with pytest.raises(StudyError) as caught, tracking("mlflow", "never", tmp_path):
        pass
    assert "cannot be written to: no answer from http://me:***@tracker/x, port ***; no merge was lost" in str(
        caught.value
    )
    with (
        pytest.raises(StudyError, match=r"http://me:\*\*\*@tracker/x is gone"),
        tracking("mlflow", "later", tmp_path) as tracker,
    ):
        assert tracker is not None
        tracker.log(1, {})


def test_every_tracker_of_the_study_file_has_its_class() -> None:
    assert set(TRACKERS) == set(get_args(TrackerName))
