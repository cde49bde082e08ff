"""The verb `search`: advance a study to a total budget. Starting and resuming are the same thing."""

import optuna

from pool.disk import only_one
from pool.errors import StudyError
from pool.progress import track
from search.loop import advance
from search.trials import Counts, count_trials
from studies.workbench import Workbench


def run_search(bench: Workbench, merges: int) -> Counts:
    """Advance the study to `merges` evaluations in all.

    Raises `StudyError` when another process is advancing it, and `StudyMismatchError` when the study was started
    with something else.
    """
    name = bench.config.name
    busy = StudyError(f"study {name!r} is being advanced by another process; wait for it, or stop it")
    with only_one(bench.database.path.parent / f".{name}.study.lock", busy):
        study = bench.new_or_known_study()
        return _advance(study, bench, merges)


def _advance(study: optuna.Study, bench: Workbench, merges: int) -> Counts:
    done = count_trials(study).merges
    with track(f"search {bench.config.name}", merges, done=min(done, merges)) as show:

        def watch(counts: Counts, best: float) -> None:
            show(counts.merges, f"best {best:.4f}, {counts.pruned} pruned, {counts.audited} audited")

        return advance(study, bench.search(), merges, watch=watch)
