"""The trackers by name. Each is behind an extra of its own name, and imported only when a study asks for it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol, get_args

from pool.errors import ConfigError
from search.trials import Counts
from studies.study_file.search_tables import TrackerName


class Tracker(Protocol):
    """Takes down figures by step; a later step never has a smaller number."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""

    def close(self) -> None:
        """Write what is left; nothing is logged afterwards."""


def figures_of(counts: Counts, best: float) -> dict[str, float]:
    """Name what is written after every trial; `best` is in the objective's measure."""
    return {
        "best": best,
        "merges": float(counts.merges),
        "pruned": float(counts.pruned),
        "audited": float(counts.audited),
        "stopped_early": float(counts.stopped_early),
        "tokens_read": float(counts.tokens_read),
    }


def step_of(counts: Counts) -> int:
    """Number a step by the study's finished trials, so that a search that goes on goes on where it was."""
    return counts.merges + counts.pruned


@contextmanager
def opened(name: TrackerName | None, study: str, folder: Path) -> Iterator[Tracker | None]:
    """Open a tracker that writes under `folder`, and close it; None where none is wanted.

    Raises `ConfigError` when its extra is not installed.
    """
    if name is None:
        yield None
        return
    assert name in get_args(TrackerName), "checked when the study file was read"
    try:
        module = import_module(f"studies.running.trackers.{name}_tracker")
        tracker: Tracker = module.start(study, folder)
    except ImportError as error:
        raise ConfigError(
            f"[search] tracker = {name!r} needs {error.name or name}: pip install 'mixscout[{name}]'"
        ) from None
    try:
        yield tracker
    finally:
        tracker.close()
