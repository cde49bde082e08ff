"""The verb `search`: advance a study to a total budget. Starting and resuming are the same thing."""

import optuna

from pool.disk import only_one
from pool.errors import StudyError
from pool.progress import say, track
from search.loop import Search, advance
from search.trials import STOPPED_BY, Counts, count_trials
from studies.opened_study import OpenedStudy


def run_search(bench: OpenedStudy, merges: int) -> Counts:
    """Advance the study to `merges` evaluations in all.

    Raises `StudyError` when another process is advancing it, and `StudyMismatchError` when the study was started
    with something else.
    """
    name = bench.config.name
    busy = StudyError(f"study {name!r} is being advanced by another process; wait for it, or stop it")
    with only_one(bench.database.path.parent / f".{name}.study.lock", busy):
        search = bench.search()  # before the study is made: a mistake leaves none behind
        study = bench.new_or_known_study()
        counts = _advance(study, search, merges)
        reason = study.user_attrs.get(STOPPED_BY)
        if reason:
            say(f"search {name}: stopped after {counts.merges} of {merges} merges by {reason}")
        return counts


def _advance(study: optuna.Study, search: Search, merges: int) -> Counts:
    done = count_trials(study).merges
    with track(f"search {study.study_name}", merges, done=min(done, merges)) as show:

        def watch(counts: Counts, best: float) -> None:
            show(counts.merges, f"best {best:.4f}, {counts.pruned} pruned, {counts.audited} audited")

        return advance(study, search, merges, watch=watch)
