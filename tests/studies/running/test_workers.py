"""Many workers on one study: the budget to the merge, no mixture twice, no trial lost, whoever dies."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from crowd import NAMES, Task, kill_at_random, result_of, undisturbed
from optuna.trial import TrialState
from servers import Postgres
from tiny import edit

from objectives.evaluation import Evaluation
from objectives.stand_ins.analytic import QuadraticLoss
from pool.engines.processes import Processes
from pool.engines.resources import device_fault
from pool.errors import DeviceError, StudyError
from pool.mixture import Mixture
from search.crew import MOST_BEGINNINGS, Alone
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import BEGUN, ELSEWHERE, REASON, count_trials

SPACE = CappedSimplex.of(NAMES)
LOSS = QuadraticLoss(Mixture.from_array(NAMES, [0.5, 0.3, 0.2, 0.0]), [1.0, 2.0, 1.0, 1.0])


@pytest.mark.parametrize(("kind", "workers"), [("sqlite", 2), ("postgres", 3), ("mariadb", 2)])
def test_workers_killed_at_random_make_exactly_the_merges_of_the_budget(
    kind: str, workers: int, new_address: Callable[[str], str], tmp_path: Path
) -> None:
    task = Task(new_address(kind), 24, tmp_path / "log", seconds=0.05)
    killed = kill_at_random(task, workers, 3, random.Random(4))
    _check(task, killed)


def test_a_server_that_restarts_in_the_middle_is_waited_for(
    postgres: Postgres, new_address: Callable[[str], str], tmp_path: Path
) -> None:
    task = Task(new_address("postgres"), 20, tmp_path / "log", seconds=0.05)
    restarted = []

    def restart(merges: int) -> None:
        if merges >= 10 and not restarted:
            restarted.append(merges)
            postgres.restart()

    killed = kill_at_random(task, 2, 2, random.Random(5), disturb=restart)
    assert restarted
    _check(task, killed)


def _check(task: Task, killed: int) -> None:
    assert killed >= 1, "the kills came too late to prove anything"
    result = result_of(task)
    assert result.states == {"COMPLETE": task.merges}, "the budget to the merge, and no zombie"
    assert result.different_mixtures == result.kept == result.computed == task.merges
    assert result.computed_again <= killed, "only what a killed worker had not kept yet is computed again"
    assert result.numbers_in_order and result.without_verdict == 0
    assert result.values == undisturbed(task), "a strategy that goes by the trial's number ends as if undisturbed"


def test_the_command_starts_workers_that_share_one_budget(
    root: Path, mixscout, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(root / "study.toml", "merges = 12", "merges = 8")
    answer = mixscout(
        "search", root / "study.toml", "--workers", 2, "--devices", "cpu", "--set", "name=eight", "--json"
    )
    assert answer.code == 0, answer.err
    counts = json.loads(answer.out)["counts"]
    assert counts["merges"] == 8
    edit(root / "study.toml", 'name = "tiny"', 'name = "eight"')
    again = json.loads(mixscout("worker", root / "study.toml", "--json").out)["counts"]
    assert again == counts, "there was nothing left to do"
    monkeypatch.setattr(Processes, "run", lambda *_, **__: pytest.fail("a worker was started for nothing"))
    finished = mixscout("search", root / "study.toml", "--workers", 2, "--devices", "cpu", "--json")
    assert json.loads(finished.out)["counts"] == counts
    assert json.loads(finished.out)["mixture"] == json.loads(answer.out)["mixture"] is not None


def test_what_stops_the_workers_is_said_in_one_line(root: Path, mixscout) -> None:
    edit(root / "study.toml", "licences = 0.6", "licenses = 0.6")
    answer = mixscout("worker", root / "study.toml", "--workers", 1)
    assert answer.code == 1
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("mixscout: no worker is left after 0 of 12 merges: ") and "licenses" in last
    wrong = mixscout("search", root / "study.toml", "--devices", "0;1")
    assert wrong.code == 1 and "'0;1' is no list of devices; write 0,1" in wrong.err


class Others(Alone):
    """Other workers, who are at some trials."""

    def __init__(self, *at: int) -> None:
        self.at = set(at)
        self.waits = 0

    def take(self, study: optuna.Study, number: int) -> bool:
        return number not in self.at

    def busy(self, study: optuna.Study) -> set[int]:
        return self.at

    def wait(self, times: int) -> None:
        """One of them finishes a trial."""
        self.waits += 1
        number = self.at.pop()
        study_trial = next(trial for trial in self.study.trials if trial.number == number)
        self.study.tell(study_trial.number, LOSS(SPACE.mixture_of(study_trial)).value)


def _search(strategy: str, objective: object = LOSS, retries: int = 0) -> Search:
    start = {"uniform": Mixture.uniform(NAMES)}
    return Search(objective, SPACE, STRATEGIES[strategy], 3, None, start, retries=retries)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", ["gradient", "greedy", "qmc", "exhaustive", "gp", "tpe"])
def test_nobody_proposes_what_another_worker_is_busy_with(strategy: str) -> None:
    study = optuna.create_study()
    advance(study, _search(strategy), 4 if strategy == "greedy" else 12)
    busy = [study.ask() for _ in range(3)]
    mixtures = [SPACE.suggest(trial) for trial in busy]
    assert len({mixture.digest for mixture in mixtures}) == 3
    drawn = [ELSEWHERE in study.trials[trial.number].user_attrs for trial in busy]
    assert not drawn[0]
    assert all(drawn[1:]) == (strategy in ("gradient", "greedy")), "a sequence goes on; a descent has one next step"


def test_what_others_have_reserved_is_waited_for_and_not_exceeded() -> None:
    study = optuna.create_study()
    advance(study, _search("random"), 4)
    busy = [study.ask() for _ in range(2)]
    for trial in busy:
        SPACE.suggest(trial)
    others = Others(*(trial.number for trial in busy))
    others.study = study
    counts = advance(study, _search("random"), 7, crew=others)
    assert counts.merges == 7 and others.waits == 2
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


class Broken(QuadraticLoss):
    """Runs out of memory the first `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__(LOSS.optimum, [1.0, 2.0, 1.0, 1.0])
        self.times = times
        self.asked = 0

    def __call__(self, mixture: Mixture) -> Evaluation:
        self.asked += 1
        if self.asked <= self.times:
            raise MemoryError("no room for the merge")
        return super().__call__(mixture)


def test_an_evaluation_that_raises_is_tried_again_then_kept_as_failed() -> None:
    again = optuna.create_study()
    counts = advance(again, _search("random", Broken(2), retries=2), 3)
    assert (counts.merges, counts.failed) == (3, 0)
    given_up = optuna.create_study()
    counts = advance(given_up, _search("random", Broken(3), retries=2), 3)
    assert (counts.merges, counts.failed) == (3, 1)
    assert given_up.trials[0].user_attrs[REASON] == "MemoryError: no room for the merge (tried 3 times)"


def test_a_study_in_which_everything_raises_does_not_burn_its_budget() -> None:
    study = optuna.create_study()
    with pytest.raises(StudyError, match="the last 3 evaluations failed, the last one by MemoryError"):
        advance(study, _search("random", Broken(1000)), 30)
    assert count_trials(study).merges == 3


def test_a_mixture_whose_workers_always_die_is_given_up() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr(BEGUN, MOST_BEGINNINGS)
    counts = advance(study, _search("random"), 2)
    assert counts.failed == 1 and "its worker died" in study.trials[0].user_attrs[REASON]


class OnFaultyGpu(QuadraticLoss):
    """Raises as PyTorch does after an illegal access, for ever: the context of the GPU is lost."""

    asked = 0

    def __call__(self, mixture: Mixture) -> Evaluation:
        self.asked += 1
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be late.")


def test_a_fault_of_the_gpu_ends_the_process_and_fails_no_trial() -> None:
    study = optuna.create_study()
    broken = OnFaultyGpu(LOSS.optimum, [1.0, 2.0, 1.0, 1.0])
    line = (
        r"^a GPU failed, and this process can use it no more \(CUDA error: an illegal .* encountered\): .* run the same"
    )
    with pytest.raises(DeviceError, match=line):
        advance(study, _search("random", broken, retries=2), 3)
    assert broken.asked == 1 and [trial.state for trial in study.trials] == [TrialState.RUNNING]
    counts = advance(study, _search("random"), 3)
    assert (counts.merges, counts.failed) == (3, 0), "another process takes the trial up"


def test_a_lost_context_is_known_by_the_device_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(device: int | None = None) -> None:
        raise RuntimeError("CUDA error: an error of tomorrow")

    def second_is_lost(device: int | None = None) -> None:
        if device == 1:
            lost()

    odd = RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")
    assert device_fault(odd) is None and device_fault(MemoryError()) is None
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    assert device_fault(odd) is None, "the device goes on"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda number: number % 2)
    monkeypatch.setattr("torch.cuda.synchronize", second_is_lost)
    assert "an error of tomorrow" in str(device_fault(odd)), "a model may lie on several devices"
    monkeypatch.setattr("torch.cuda.synchronize", lost)
    assert "an error of tomorrow" in str(device_fault(odd))
    assert device_fault(torch.OutOfMemoryError("CUDA out of memory")) is None, "less memory may do"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_fault_is_known() -> None:
    code = (
        "import torch; from pool.engines.resources import device_fault\n"
        "try: torch.zeros(2, device='cuda')[torch.tensor([9], device='cuda')]; torch.cuda.synchronize()\n"
        "except RuntimeError as error: print(device_fault(error))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.startswith("a GPU failed, and this process can use it no more (CUDA error: device-side assert")
