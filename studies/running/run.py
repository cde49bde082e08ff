"""The verb `search`: advance a study to a total budget. Starting, resuming and joining in are the same thing."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna

from pool.errors import StudyError
from pool.progress import kept, say, track
from search.loop import Search, advance
from search.optuna_private import id_of
from search.trials import STOPPED_BY, Counts, count_trials
from studies.database.database import Database
from studies.database.errors import outlasting
from studies.database.leases import exclusively
from studies.opened.opened_study import OpenedStudy
from studies.running.evidence import EVIDENCE, Found, find_evidence, take_over
from studies.running.plan import keep_prior, planned_search
from studies.running.trackers import Tracker, figures_of, step_of, tracking

LONGEST_WAIT_SECONDS = 1.0


class DatabaseCrew:
    """The workers that share a database, as a `Crew`: leases on trials, and one proposal at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, study: optuna.Study) -> None:
        self._database.optuna.look(id_of(study))

    @contextmanager
    def asking(self, study: optuna.Study) -> Iterator[None]:
        with exclusively(self._database.engine, self._database.address, _scope(study)):
            yield

    def take(self, study: optuna.Study, number: int) -> bool:
        return self._database.leases.take(_scope(study), str(number))

    def leave(self, study: optuna.Study, number: int) -> None:
        self._database.leases.give_back(_scope(study), str(number))

    def publish(self) -> None:
        self._database.optuna.send()

    def busy(self, study: optuna.Study) -> set[int]:
        return {int(item) for item in self._database.leases.held_by_others(_scope(study))}

    def wait(self, times: int) -> None:
        time.sleep(min(LONGEST_WAIT_SECONDS, 0.05 * 1.3**times))


def run_search(bench: OpenedStudy, merges: int, *, accept: bool = False) -> Counts:
    """Advance the study to `merges` evaluations in all, together with any other workers.

    A lost database is waited for. Raises `StudyMismatchError` for another identity; with `accept`, only outside the
    course.
    """
    search = planned_search(bench)  # before the study is made: a mistake leaves none behind
    with exclusively(bench.database.engine, bench.database.address, "study"):
        study = _new_or_known_study(bench, accept=accept)
        keep_prior(bench, study)
    with tracking(bench.config.search.tracker, bench.config.name, bench.root / "reports") as tracker:
        return advance_kept(bench, study, search, Budget(merges, f"search {bench.config.name}"), tracker)


@dataclass(frozen=True)
class Budget:
    """The total of a study, in evaluations called `noun`.

    what: the work in words, for progress.
    """

    total: int
    what: str
    noun: str = "merges"


def _new_or_known_study(bench: OpenedStudy, *, accept: bool) -> optuna.Study:
    """Open or make the study, with its evidence from another."""
    other, storage = bench.config.search.evidence_from, bench.database.optuna
    found: list[Found] = []
    if other and not _has_evidence(bench.config.name, storage):
        found = find_evidence(storage, other, bench.objective, bench.space)
    study = bench.new_or_known_study(accept=accept)
    if other:
        take_over(study, other, found, bench.space)
    return study


def _has_evidence(name: str, storage: optuna.storages.BaseStorage) -> bool:
    known = name in optuna.get_all_study_names(storage)
    return known and EVIDENCE in optuna.load_study(storage=storage, study_name=name).user_attrs


def advance_kept(
    bench: OpenedStudy, study: optuna.Study, search: Search, budget: Budget, tracker: Tracker | None = None
) -> Counts:
    """Advance a study of a database to its budget, with any other workers; a lost database is waited for."""
    done = count_trials(study).merges
    latest, total, what = done, budget.total, budget.what
    if done < total and bench.device:
        say(f"{what}: {bench.device}")
    if done < total and bench.merges_hold:
        say(f"{what}: {bench.merges_hold}")
    if done < total and bench.members_held:
        say(f"{what}: members {bench.members_held}")
    with (
        kept(lambda: f"kept: {latest} of {total} {budget.noun} of study {study.study_name!r}"),
        track(what, total, done=min(done, total)) as show,
    ):

        def watch(counts: Counts, lowest: float) -> None:
            nonlocal latest
            best = bench.target.shown(lowest)
            if counts.merges > latest:
                latest = counts.merges
                value = f"best {best:.4f}" if math.isfinite(best) else "no value yet"
                judged = f", {counts.pruned} pruned, {counts.audited} audited" if budget.noun == "merges" else ""
                show(min(counts.merges, total), f"{value}{judged}")
                if tracker:
                    tracker.log(step_of(counts), figures_of(counts, best))

        def go_on() -> Counts:
            with _still_there(study, bench.database), bench.database.optuna.worked_with():
                counts = advance(study, search, total, crew=DatabaseCrew(bench.database), watch=watch)
                _give_back_ended(study, bench.database)
                return counts

        wait = bench.config.database_timeout_seconds
        counts = outlasting(go_on, patience_seconds=wait, progress=lambda: latest)
    reason = study.user_attrs.get(STOPPED_BY)
    if reason:
        say(f"{what}: stopped after {counts.merges} of {total} {budget.noun} by {reason}")
    return counts


def _give_back_ended(study: optuna.Study, database: Database) -> None:
    """End the leases of ended trials: a worker lost between the end of its trial and of its lease leaves the lease."""
    ended = {str(trial.number) for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    database.leases.give_back_of_all(_scope(study), ended)


@contextmanager
def _still_there(study: optuna.Study, database: Database) -> Iterator[None]:
    """Translate Optuna's `KeyError` for a study that somebody removed. Raises `StudyError`."""
    try:
        yield
    except KeyError:
        if study.study_name in optuna.get_all_study_names(database.optuna):
            raise
        raise StudyError(
            f"study {study.study_name!r} was removed from {database.address} while it was searched: its trials are "
            "lost, its evaluations are remembered; run the same command again to start it anew"
        ) from None


def _scope(study: optuna.Study) -> str:
    return f"study-{id_of(study)}"
