"""Many real processes on one study of an analytic objective, killed and replaced at random: for tests, and by hand.

By hand:
python tests/support/killing/crowd.py ADDRESS MERGES WORKERS KILLS [SECONDS_A_MERGE [STRATEGY [COMMAND_AT_HALF]]]
"""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
from optuna.trial import TrialState

from objectives.evaluation import Evaluation, Objective
from objectives.stand_ins.analytic import QuadraticLoss
from pool.mixture import Mixture
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import VERDICT, count_trials
from studies.database.address import parse
from studies.database.database import Database, open_database
from studies.database.errors import outlasting
from studies.database.leases import exclusively
from studies.database.remembered import RememberedObjective
from studies.running.run import DatabaseCrew

NAMES = ("a", "b", "c", "d")
OPTIMUM = Mixture.from_array(NAMES, [0.5, 0.3, 0.2, 0.0])
CURVATURES = [1.0, 2.0, 1.0, 1.0]
STUDY = "crowd"
_SPAWNED = multiprocessing.get_context("forkserver")
_SPAWNED.set_forkserver_preload(["crowd"])


@dataclass(frozen=True)
class Task:
    """What every worker is told."""

    address: str
    merges: int
    log: Path
    seconds: float = 0.0
    strategy: str = "random"


class SlowLoss(QuadraticLoss):
    """Takes its time, and writes down every mixture when it is done with it."""

    def __init__(self, task: Task) -> None:
        super().__init__(OPTIMUM, CURVATURES)
        self._task = task

    def _evaluation(self, mixture: Mixture, *, with_gradient: bool) -> Evaluation:
        time.sleep(self._task.seconds)
        with self._task.log.open("a") as stream:
            stream.write(mixture.digest + "\n")
        return super()._evaluation(mixture, with_gradient=with_gradient)


def work(task: Task) -> None:
    """Be one worker."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with open_database(parse(task.address, "address"), timeout_seconds=60, lease_seconds=10) as opened:
        with exclusively(opened.engine, opened.address, "study"):
            study = optuna.create_study(storage=opened.optuna, study_name=STUDY, load_if_exists=True)
        search = search_of(task, RememberedObjective(SlowLoss(task), opened.evaluations))

        def go_on() -> None:
            with opened.optuna.worked_with():
                advance(study, search, task.merges, crew=DatabaseCrew(opened))

        outlasting(go_on, patience_seconds=60)


def start_worker(task: Task) -> BaseProcess:
    """Start a worker."""
    process = _SPAWNED.Process(target=work, args=(task,))
    process.start()
    return process


def merges_of(opened: Database) -> int:
    """Count the merges made so far; 0 where there is no study yet."""
    if STUDY not in optuna.get_all_study_names(opened.optuna):
        return 0
    return count_trials(optuna.load_study(storage=opened.optuna, study_name=STUDY)).merges


def kill_at_random(
    task: Task, workers: int, kills: int, rng: random.Random, *, disturb: Callable[[int], None] = lambda merges: None
) -> int:
    """Advance a study by workers of which a random one is killed and replaced now and then; return how many were.

    The kills are spread over the merges; only processes that are running are killed. `disturb` is called with the
    merges made, again and again.
    """
    crowd = [start_worker(task) for _ in range(workers)]
    moments = sorted(rng.sample(range(1, max(kills + 1, int(0.9 * task.merges))), kills))
    killed = 0
    with open_database(parse(task.address, "address"), timeout_seconds=60) as opened:
        while any(worker.is_alive() for worker in crowd):
            time.sleep(rng.uniform(0, 0.05))
            merges = outlasting(lambda: merges_of(opened), patience_seconds=60)
            disturb(merges)
            if moments and merges >= moments[0]:
                time.sleep(rng.uniform(0, 2 * task.seconds + 0.02))
                place = rng.randrange(workers)
                if crowd[place].is_alive():
                    moments.pop(0)
                    crowd[place].kill()
                    killed += 1
                    crowd[place] = start_worker(task)
    for worker in crowd:
        worker.join()
        assert worker.exitcode == 0, f"a worker ended with {worker.exitcode}"
    return killed


@dataclass(frozen=True)
class Result:
    """What a study came to: trials by state, mixtures evaluated, mixtures computed, and how often the most computed."""

    states: dict[str, int]
    different_mixtures: int
    kept: int
    computed: int
    computed_again: int
    numbers_in_order: bool
    without_verdict: int
    values: tuple[float, ...]


def result_of(task: Task) -> Result:
    """Look at what the workers left."""
    with open_database(parse(task.address, "address"), timeout_seconds=60) as opened:
        study = optuna.load_study(storage=opened.optuna, study_name=STUDY)
        trials = study.get_trials()
        space = CappedSimplex.of(NAMES)
        done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        digests = {space.mixture_of(trial).digest for trial in done}
        digest = SlowLoss(task).digest
        kept = sum(opened.evaluations.find(digest, space.mixture_of(trial)) is not None for trial in done)
    computed = Counter(task.log.read_text().split())
    return Result(
        dict(Counter(trial.state.name for trial in trials)),
        len(digests),
        kept,
        len(computed),
        sum(computed.values()) - len(computed),
        [trial.number for trial in trials] == list(range(len(trials))),
        sum(VERDICT not in trial.user_attrs for trial in trials),
        tuple(trial.value for trial in done),
    )


def undisturbed(task: Task) -> tuple[float, ...]:
    """Return the values (merges,) of the same study advanced by one process that nobody disturbs."""
    study = optuna.create_study()
    advance(study, search_of(task, QuadraticLoss(OPTIMUM, CURVATURES)), task.merges)
    return tuple(trial.value for trial in study.get_trials())


def search_of(task: Task, objective: Objective) -> Search:
    """Make what a worker advances the study with."""
    start = {"uniform": Mixture.uniform(NAMES), "a": Mixture.vertex(NAMES, "a")}
    return Search(objective, CappedSimplex.of(NAMES), STRATEGIES[task.strategy], 1, None, start)


if __name__ == "__main__":
    from crowd import Task, kill_at_random, result_of, undisturbed  # the same classes that the workers know

    address, merges, workers, kills, *rest = sys.argv[1:]
    commands = rest[2:3]

    def at_half(done: int) -> None:
        if commands and done >= told.merges / 2:
            print(subprocess.run(commands.pop(), shell=True, check=True, capture_output=True, text=True).stdout)

    with tempfile.TemporaryDirectory() as folder:
        seconds, strategy = float(rest[0]) if rest else 0.2, rest[1] if len(rest) > 1 else "random"
        told = Task(address, int(merges), Path(folder) / "log", seconds, strategy)
        began = time.monotonic()
        count = kill_at_random(told, int(workers), int(kills), random.Random(0), disturb=at_half)
        took, result = round(time.monotonic() - began, 1), result_of(told)
        shown = {name: figure for name, figure in vars(result).items() if name != "values"}
        alike = {"as_undisturbed": result.values == undisturbed(told), "best": min(result.values)}
        print(json.dumps({"kills": count, "seconds": took, **shown, **alike}))
