"""The promises of an engine, kept by every one of them: in this process, in processes, on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from import_path import IMPORT_PATH
from jobs import Dying, Hungry, Meeting, Noted, Talking, begun_by, refused, seen, unreadable
from ray_nodes import ray_cluster

from pool.config.pool_file import read_pool_file
from pool.engines import ray_tasks as ray_tasks_module
from pool.engines.choice import SMALL_PARAMETERS, EngineRequest, chosen
from pool.engines.engine import MOST_LOSSES, ONE_BY_ONE, Engine, Job
from pool.engines.processes import Processes, SideBySide
from pool.engines.ray_tasks import RayTasks, ray_tasks
from pool.engines.resources import ANY, Demand, Resources, shared_out
from pool.errors import ConfigError, EngineError, PoolError

DEMO_POOL = Path(__file__).parents[3] / "studies/examples/demo_pool.toml"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes, one of which says that it has GPUs."""
    with ray_cluster({"num_cpus": 2, "num_gpus": 2}) as cluster:
        yield cluster.address


@pytest.fixture(scope="module")
def ray_engine(address: str) -> Iterator[RayTasks]:
    with ray_tasks(address, 2, Resources(gpus=0)) as engine:
        yield engine


def _engine(name: str, request: pytest.FixtureRequest) -> Engine:
    if name == "ray":
        return request.getfixturevalue("ray_engine")
    return {"processes": Processes(2), "side-by-side": SideBySide(2)}.get(name, ONE_BY_ONE)


@pytest.fixture(params=["one-by-one", "side-by-side", "processes", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return _engine(request.param, request)


@pytest.fixture(params=["processes", "ray"])
def elsewhere(request: pytest.FixtureRequest) -> Engine:
    return _engine(request.param, request)


def test_every_job_is_done_once_and_its_result_comes_under_its_name(engine: Engine, tmp_path: Path) -> None:
    jobs = [Job(f"job {value}", Noted(tmp_path, value)) for value in range(5)]
    watched = []
    assert sorted(engine.run(jobs, watch=lambda: watched.append(1))) == [(f"job {value}", value) for value in range(5)]
    assert all(len(begun_by(tmp_path, value)) == 1 for value in range(5)) and watched
    assert list(engine.run([])) == []


def test_what_a_job_raises_is_raised_as_it_was(engine: Engine) -> None:
    with pytest.raises(PoolError, match="^member 'a' has NaN; a lower learning_rate is the usual remedy$"):
        list(engine.run([Job("a", refused)]))
    with pytest.raises(NotADirectoryError) as caught:
        list(engine.run([Job("a", unreadable)]))
    assert caught.value.filename == "/proc/version/nothing"


def test_jobs_of_one_name_are_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' comes 2 times"):
        list(engine.run([Job("a", Noted(tmp_path, 1)), Job("a", Noted(tmp_path, 2))]))


def test_results_come_as_they_are_there_whatever_the_order(elsewhere: Engine, tmp_path: Path) -> None:
    results = elsewhere.run([Job("slow", Noted(tmp_path, 1, until="go")), Job("fast", Noted(tmp_path, 2))])
    assert next(results) == ("fast", 2)
    (tmp_path / "go").touch()
    assert list(results) == [("slow", 1)]


def test_a_job_whose_process_is_killed_is_begun_again(elsewhere: Engine, tmp_path: Path, capsys) -> None:
    jobs = [Job("dying", Dying(tmp_path, MOST_LOSSES - 1)), Job("other", Noted(tmp_path, 7))]
    assert sorted(elsewhere.run(jobs)) == [("dying", MOST_LOSSES), ("other", 7)]
    assert len(begun_by(tmp_path, 7)) == 1, "a dead process takes no other with it"
    assert capsys.readouterr().err.count("dying: its process died; the job goes on") == MOST_LOSSES - 1


def test_a_job_that_only_kills_is_given_up_when_all_others_are_done(elsewhere: Engine, tmp_path: Path) -> None:
    results = elsewhere.run([Job("poison", Dying(tmp_path, 99)), Job("other", Noted(tmp_path, 7))])
    assert next(results) == ("other", 7)
    with pytest.raises(
        EngineError, match="poison: given up after 3 processes in a row died.*run the same command again"
    ):
        next(results)
    assert len(begun_by(tmp_path, "dying")) == MOST_LOSSES


def test_a_job_that_gets_further_every_time_is_not_given_up(elsewhere: Engine, tmp_path: Path) -> None:
    work = Dying(tmp_path, MOST_LOSSES + 1)
    assert list(elsewhere.run([Job("slow but sure", work, work.begun)])) == [("slow but sure", MOST_LOSSES + 2)]


def test_a_job_that_is_killed_again_takes_less_memory_until_it_fits_or_cannot(
    elsewhere: Engine, tmp_path: Path, capsys
) -> None:
    (tmp_path / "fits").mkdir()
    (tmp_path / "never").mkdir()
    fits, never = Hungry(tmp_path / "fits", 1), Hungry(tmp_path / "never", 0)
    results = elsewhere.run([Job("fits", fits, spare=fits.spare), Job("never", never, spare=never.spare)])
    assert next(results) == ("fits", 1)
    with pytest.raises(EngineError, match="never: given up after 5 processes in a row died"):
        next(results)
    remedies = ["the job goes on", *(f"the job goes on, {size} at a time" for size in (4, 2, 1))]
    said = capsys.readouterr().err.splitlines()
    for name in ("fits", "never"):
        assert [line for line in said if line.startswith(name)] == [
            f"{name}: its process died; {how}" for how in remedies
        ]


def test_what_ray_ends_for_memory_takes_less_of_it_at_once_and_what_a_node_takes_with_it_does_not() -> None:
    from ray import exceptions

    ends = (exceptions.OutOfMemoryError("low"), exceptions.WorkerCrashedError(), exceptions.NodeDiedError("gone"))
    assert [ray_tasks_module._translated(error).starved_after for error in ends] == [1, 2, None]


def test_what_jobs_say_is_said_here_once_and_under_their_names_without_the_noise_of_libraries(
    elsewhere: Engine, tmp_path: Path, capfd
) -> None:
    names = ("member 'a'", "member 'b'")
    jobs = [Job(name, Talking(name, tmp_path), said=tmp_path / f"{name}.said") for name in names]
    assert sorted(elsewhere.run(jobs)) == [(name, name) for name in names]
    out, said = capfd.readouterr()
    first = "out of memory; trying 4 of 8 windows at a time"
    died = "its process died; the job goes on"
    for name in names:
        mine = [line.removeprefix(f"{name}: ") for line in said.splitlines() if line.startswith(name)]
        assert mine == [first, died, first, "not under a name", "0/3", "3/3 loss 1.234"]
    assert len(said.splitlines()) == 12 and "noise" not in out and not list(tmp_path.glob("*.said"))


FAILING = """
import sys
from pathlib import Path
from jobs import Barred
from pool.engines.engine import Job
from pool.engines.processes import Processes
from pool.errors import PoolError

try:
    list(Processes(2).run([Job(str(raises), Barred(Path(sys.argv[1]), raises)) for raises in (False, True)]))
except PoolError as error:
    print(error, file=sys.stderr)
"""


def test_an_error_of_a_process_is_one_line_though_others_are_ended_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAILING, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": IMPORT_PATH}, capture_output=True, text=True, check=True
    )
    assert done.stderr == "member 'a' has NaN; a lower learning_rate is the usual remedy\n"


def test_nothing_goes_on_once_nobody_waits(elsewhere: Engine, tmp_path: Path) -> None:
    results = elsewhere.run([Job("endless", Noted(tmp_path, 1, until="never")), Job("other", Noted(tmp_path, 2))])
    next(results)
    while not begun_by(tmp_path, 1):
        time.sleep(0.02)
    results.close()
    (process,) = begun_by(tmp_path, 1)
    psutil.wait_procs([psutil.Process(process)] if psutil.pid_exists(process) else [], timeout=20)
    assert not psutil.pid_exists(process)


def test_processes_have_a_device_each_in_turn_from_their_very_start() -> None:
    jobs = [Job(str(number), partial(seen, "CUDA_VISIBLE_DEVICES")) for number in range(3)]
    assert {device for _, device in Processes(3, ("3", "cpu")).run(jobs)} == {"3", ""}
    (threads,) = [found for _, found in Processes(1).run([Job("t", partial(seen, "OMP_NUM_THREADS"))])]
    assert threads and int(threads) >= 1


def _devices_seen(engine: Engine, folder: Path, places: int) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES says in as many processes at a time as there are places, none of them twice."""
    jobs = [Job(str(number), Meeting(folder, places)) for number in range(places)]
    return sorted(devices for _, devices in engine.run(jobs))


def test_processes_that_take_several_gpus_see_as_many_each_and_no_other_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    four = ("0", "1", "2", "3")
    with chosen(EngineRequest(workers=2), four, Demand(Resources(gpus=2))) as engine:
        assert _devices_seen(engine, tmp_path / "two each", 2) == ["0,1", "2,3"]
    with chosen(EngineRequest(workers=2, num_gpus=1), four, Demand(Resources(gpus=2))) as engine:
        assert _devices_seen(engine, tmp_path / "what the command says wins", 2) == ["0", "1"]
    assert not capsys.readouterr().err
    with chosen(EngineRequest(workers=4), ("a", "b", "c"), Demand(Resources(gpus=2))) as engine:
        assert engine.places == 1 and "has room for 1 of 4 workers that take 2 GPUs each" in capsys.readouterr().err
        assert _devices_seen(engine, tmp_path / "one is left over", 1) == ["a,b"]
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = Job("a", partial(seen, "OMP_NUM_THREADS"))
    assert list(Processes(2, resources=Resources(cpus=3)).run([job])) == [("a", "3")]
    with pytest.raises(EngineError, match="this machine has 8 CPUs and 1 GPUs .* each job takes 2 GPUs: give other"):
        Processes(1, ("0", "cpu"), Resources(gpus=2))


def test_shares_of_devices() -> None:
    assert shared_out(("0", "1"), None) == shared_out(("0", "1"), 0.5) == ("0", "1")
    assert shared_out((), None) == () and shared_out(("0", "1"), 0) == ("",)
    assert shared_out(("0", "cpu"), 1) == ("0", "")
    assert shared_out(("MIG-1", "MIG-2", "MIG-3", "MIG-4"), 2) == ("MIG-1,MIG-2", "MIG-3,MIG-4")
    assert Processes(9, ("0", "1"), Resources(gpus=0.5)).places == 4
    assert Processes(9, ("0", "1"), Resources(gpus=0.75)).places == 2, "no job takes parts of two GPUs"


def test_ray_gives_each_job_a_gpu_where_there_are_some_and_shows_none_where_none_is_asked_for(
    address: str, ray_engine: RayTasks
) -> None:
    job = Job("a", partial(seen, "CUDA_VISIBLE_DEVICES"))
    assert list(ray_engine.run([job])) == [("a", "")]
    with ray_tasks(address, None, Resources()) as engine:
        assert engine.places == 2 and engine.machines == 1
        both = {device for _, device in engine.run([job, Job("b", job.work)])}
    assert both <= {"0", "1"}
    with ray_tasks(address, None, Resources(cpus=0.5, gpus=0.0)) as engine:
        assert engine.places == 6


def test_a_job_too_large_for_every_node_is_an_error_and_not_an_endless_wait(address: str) -> None:
    with pytest.raises(EngineError, match="no node .* has 8 CPUs and 0 GPUs .*the largest has 2 CPUs and 2 GPUs"):
        ray_tasks(address, None, Resources(8, 0)).__enter__()
    with pytest.raises(ConfigError, match="needs some of a node"):
        Resources(0, 0)
    with pytest.raises(ConfigError, match="a share of one GPU or whole ones: num_gpus is 1.5"):
        Resources(gpus=1.5)


def test_what_does_not_go_together_is_refused_and_the_rest_chosen() -> None:
    for wrong, message in {
        "address": "--address says something about a Ray cluster: give --engine ray",
        "num_gpus": "--num-gpus says what each of several workers takes: give --workers",
    }.items():
        with pytest.raises(ConfigError, match=message):
            EngineRequest(**{wrong: "auto" if wrong == "address" else 1.0})
    with pytest.raises(ConfigError, match="--engine processes needs --workers"):
        EngineRequest("processes")
    with pytest.raises(ConfigError, match="'ray://head' is no Ray cluster's; write HOST:PORT"):
        EngineRequest("ray", address="ray://head")
    with pytest.raises(ConfigError, match="--devices is for processes"), chosen(EngineRequest("ray"), ("0",)):
        pass
    with chosen(EngineRequest()) as engine:
        assert engine is ONE_BY_ONE
    with chosen(EngineRequest(workers=3), ("0", "1")) as engine:
        assert isinstance(engine, Processes) and engine.places == 3


def test_no_ray_and_no_cluster_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    ray.shutdown()  # another test's connection would be used
    with pytest.raises(EngineError, match="no Ray cluster could be reached at 127.0.0.1:9: .*`ray start --head`"):
        ray_tasks("127.0.0.1:9", None, Resources()).__enter__()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"--engine ray needs Ray: pip install 'mixscout\[cluster\]'"):
        ray_tasks("auto", None, Resources()).__enter__()


def test_trainings_of_a_small_model_get_a_core_each_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    small = SMALL_PARAMETERS

    def default(parameters: int | None, otherwise: Resources = ANY) -> Engine:
        with chosen(demand=Demand(otherwise, parameters)) as engine:
            return engine

    assert isinstance(default(small), SideBySide)
    demo = read_pool_file(DEMO_POOL)
    with chosen(demand=demo.demand) as engine:
        assert isinstance(engine, SideBySide), "the demo's members, on a machine without a GPU"
    assert default(small + 1) is default(None) is default(small, Resources(cpus=2)) is ONE_BY_ONE
    with chosen(devices=("0",), demand=Demand(parameters=small)) as engine:
        assert not isinstance(engine, SideBySide)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert default(small) is ONE_BY_ONE, "the user has divided the cores"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("pool.engines.choice.visible_devices", lambda: ("0",))  # as on a machine with one
    assert default(small) is ONE_BY_ONE, "a GPU does one job at a time"


def test_within_a_block_runs_share_processes_and_the_block_ends_them() -> None:
    """Even after a job that failed, and after a process that died in between."""
    engine = SideBySide(2)

    def ids() -> set[int]:
        return {found for _, found in engine.run([Job(name, os.getpid) for name in "abcd"])}

    assert not ids() & ids(), "outside of a block each run has its own"
    with engine.kept():
        first = ids()
        assert ids() <= first
        with pytest.raises(ZeroDivisionError):
            list(engine.run([Job("a", partial(divmod, 1, 0)), Job("b", partial(time.sleep, 60))]))
        left = ids()
        assert left & first, "the process of the job that failed lives on"
        os.kill(next(iter(left)), signal.SIGKILL)
        time.sleep(1)  # a submission in the moment of a death makes a thread of loky's print an error
        assert len(last := ids()) >= 1
    assert not any(psutil.pid_exists(one) for one in first | left | last)


def test_side_by_side_a_job_has_one_thread_whatever_the_number_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for names in (["a"], ["a", "b"]):
            assert dict(SideBySide(2).run([Job(name, torch.get_num_threads) for name in names])) == dict.fromkeys(
                names, 1
            )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
