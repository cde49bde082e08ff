"""Advance a study on an analytic objective, and die by SIGKILL at one exact place: a script for test_kill.py.

A line of standard input is a run: database, merges in total, where ("before:name", "after:name"), and at which call
(0: never).
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import optuna

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.gate import Gate, GateRule
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.surrogates.scheffe import ScheffeSurrogate
from studies.database.database import open_database
from studies.database.evaluations import EvaluationStore
from studies.database.remembered import RememberedObjective
from studies.running.run import DatabaseCrew

NAMES = ("a", "b", "c", "d")
PLACES = {
    "ask": (optuna.Study, "ask"),
    "suggest": (optuna.Trial, "suggest_float"),
    "attribute": (optuna.Trial, "set_user_attr"),
    "keep": (EvaluationStore, "keep"),
    "tell": (optuna.Study, "tell"),
    "enqueue": (optuna.Study, "enqueue_trial"),
}


class LoggedLoss(QuadraticLoss):
    """Writes down every mixture it is really evaluated at."""

    def __init__(self, log: Path) -> None:
        super().__init__(Mixture.from_array(NAMES, [0.5, 0.3, 0.2, 0.0]), [1.0, 2.0, 1.0, 1.0])
        self._log = log

    def gradient(self, mixture: Mixture) -> Evaluation:
        with self._log.open("a") as stream:
            stream.write(mixture.digest + "\n")
        return super().gradient(mixture)


def die_at(where: str, nth: int) -> None:
    """Make the nth call of a function the last thing this process does."""
    when, _, place = where.partition(":")
    owner, name = PLACES[place]
    original = getattr(owner, name)
    calls = 0

    def dying(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


def run(database: Path, merges: int, where: str, nth: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if nth:
        die_at(where, nth)
    with open_database(database, timeout_seconds=10) as opened:
        study = optuna.create_study(storage=opened.optuna, study_name="s", load_if_exists=True)
        gate = Gate(GateRule(min_evidence=6, patience=4), ScheffeSurrogate, seed=1)
        start = {"uniform": Mixture.uniform(NAMES), "a": Mixture.vertex(NAMES, "a")}
        objective = RememberedObjective(LoggedLoss(database.with_suffix(".log")), opened.evaluations)
        search = Search(objective, CappedSimplex.of(NAMES), STRATEGIES["gradient"], 1, gate, start)
        with opened.optuna.worked_with():
            advance(study, search, merges, crew=DatabaseCrew(opened))


def serve() -> None:
    """Fork for every line of arguments on standard input, and print how the fork ended.

    A fork has the libraries of this process, so a run costs no seconds of imports.
    """
    for line in sys.stdin:
        database, merges, where, nth = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                run(Path(database), merges, where, nth)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
