"""`DownstreamError`: a mixture is worth the error of its members' merge on tasks of lm-evaluation-harness.

The harness is an extra, imported when an objective is made. It evaluates the resident model in place: no checkpoint is
written. Tasks may draw random numbers, from generators that would go on from one evaluation to the next: all are wound
back before each.
"""

import difflib
import importlib
import importlib.metadata
import io
import json
import logging
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from objectives.evaluation import Evaluation
from objectives.merging.merge import StackedPool
from objectives.merging.rules import MergeRule
from pool.errors import ConfigError, first_line
from pool.files.digests import digest_file, digest_json
from pool.mixture import Mixture
from pool.parts.store import Pool
from pool.tokens.tokenizer import load_tokenizer

BATCH_SIZE = 32
"""Requests of one forward pass; fixed, since padding changes the last digits."""
PYTHON_SEED = 0
SEED = 1234
"""Seeds of Python, and of NumPy, torch and the examples in prompts: the harness's own, so that its command agrees."""

_Harness = Any  # values of the harness, whose types cannot be imported where it is missing


@dataclass(frozen=True)
class Tasks:
    """Tasks of the harness, and how they are asked.

    `folder` holds task files of one's own, which win over the harness's tasks of the same name; data files that they
    name are absolute, or relative to where the command is run. `metric` is a metric's name, or `name,filter` where a
    task has several filters. `documents` bounds those of each task; None is all. Raises `ConfigError` for a name given
    twice.
    """

    names: tuple[str, ...]
    folder: Path | None
    metric: str
    shots: int
    documents: int | None

    def __post_init__(self) -> None:
        twice = sorted(name for name in set(self.names) if self.names.count(name) > 1)
        if twice:
            raise ConfigError(f"[downstream] tasks has {twice[0]!r} twice; every task counts once")


@dataclass(frozen=True)
class _Score:
    metric: float
    standard_error: float


class DownstreamError:
    """Merges the pool's members by a mixture and runs the tasks on the merge.

    The value is the mean over tasks of 1 - metric where the harness says that higher is better, else of the metric.
    Its standard error is sqrt(sum of squares) / tasks of the harness's own; infinite when a task has none (one
    document, or a metric that is not a mean over documents), and zero when all documents of all tasks score alike.
    Raises `ConfigError` for what the study file asks that cannot be had.
    """

    gradient = challenge = foundation = None

    def __init__(self, pool: Pool, stacked: StackedPool, tasks: Tasks, *, rule: MergeRule) -> None:
        self._stacked = stacked
        self._wanted = tasks
        self._rule = rule
        tokenizer = load_tokenizer(pool.folder / "tokenizer")
        with _aside(stacked.device):
            self._tasks = _load(tasks)
            language_model = _harness("models.huggingface").HFLM
            self._model = language_model(pretrained=stacked.model, tokenizer=tokenizer, batch_size=BATCH_SIZE)
            asked = {name: _requests_digest(name, task, tasks) for name, task in self._tasks.items()}
        self._higher_is_better = _direction(self._tasks, tasks.metric)
        self.digest = digest_json(
            {
                "kind": "downstream",
                "pool": pool.manifest.digest,
                "tasks": list(tasks.names),
                "metric": tasks.metric,
                "shots": tasks.shots,
                "documents": tasks.documents,
                "files": _file_digests(tasks.folder),
                "requests": asked,
                "rule": rule.digest_parts,
                "lm_eval": importlib.metadata.version("lm_eval"),
                "dtype": str(stacked.dtype),
                **stacked.digest_parts,
            }
        )

    @property
    def partitions(self) -> tuple[str, ...]:
        """The pool's partitions."""
        return self._stacked.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Evaluate a mixture: one merge, then every request of every task. Raises `NonFiniteLossError`."""
        started = time.perf_counter()
        self._stacked.merge(self._rule.weights(mixture.over(self.partitions).array))
        found = self._evaluate()
        metric, results, samples = self._wanted.metric, found["results"], found["samples"]
        scores = [_score(name, task, metric, results[name], samples[name]) for name, task in self._tasks.items()]
        mean = math.fsum(score.metric for score in scores) / len(scores)
        return Evaluation(
            mixture,
            value=1 - mean if self._higher_is_better else mean,
            standard_error=math.hypot(*(score.standard_error for score in scores)) / len(scores),
            domains={},
            kind="downstream",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
        )

    def _evaluate(self) -> _Harness:
        evaluate = _harness("evaluator").evaluate
        for task in self._tasks.values():
            task.set_fewshot_seed(SEED)
        try:
            with _aside(self._stacked.device):
                # its bootstrap would start a process per core, and print: means have a closed form
                return evaluate(self._model, {"tasks": self._tasks}, limit=self._wanted.documents, bootstrap_iters=0)
        except AssertionError as error:
            raise ConfigError(
                f"a request of {_listed(self._wanted.names)} cannot be put to this model: each choice needs at least "
                f"one token, and choices and generated text must fit into its context of {self._model.max_length} "
                f"tokens; leave the task out, or build a pool with a longer context ({str(error) or 'no details'})"
            ) from None


def _harness(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"[downstream] needs lm-evaluation-harness ({error}); run `pip install 'mixscout[lm-eval]'`"
        ) from None


def _load(tasks: Tasks) -> dict[str, _Harness]:
    if tasks.folder is not None and not tasks.folder.is_dir():
        raise ConfigError(f"[downstream] task_folder {tasks.folder} is no folder; give the folder of your task files")
    manager = _manager(tasks)
    for name in tasks.names:
        _check_is_task(name, manager, tasks.folder)
    return {name: _loaded(name, manager, tasks) for name in tasks.names}


def _manager(tasks: Tasks) -> _Harness:
    """Index the user's own tasks, and only where they do not suffice the harness's, which takes seconds."""
    task_manager = _harness("tasks").TaskManager
    if tasks.folder is not None:
        own = task_manager(include_path=tasks.folder, include_defaults=False)
        if set(tasks.names) <= set(own.all_tasks):
            return own
    return task_manager(include_path=tasks.folder)


def _check_is_task(name: str, manager: _Harness, folder: Path | None) -> None:
    if name in manager.all_subtasks:
        return
    entry = manager.task_index.get(name)
    if entry is not None:
        parts = [part if isinstance(part, dict) else {"task": part} for part in (entry.cfg or {}).get("task", [])]
        members = sorted(entry.tags) or [str(part.get("task") or part.get("group")) for part in parts]
        raise ConfigError(f"{name!r} is a group of tasks; name its tasks in [downstream] tasks: {_listed(members)}")
    where = f"in {folder} (*.yaml) or in the harness" if folder else "in the harness"
    close = difflib.get_close_matches(name, manager.all_subtasks, n=3)
    hint = f"the nearest names are {_listed(close)}" if close else "`lm-eval ls tasks` lists the harness's"
    raise ConfigError(f"no task {name!r} {where}; {hint}; for tasks of your own set [downstream] task_folder")


def _loaded(name: str, manager: _Harness, tasks: Tasks) -> _Harness:
    try:
        task = manager.load([name])["tasks"][name]
    except Exception as error:  # task files run code: any type, one fact
        raise ConfigError(
            f"task {name!r} cannot be loaded: {first_line(error)}; see that its data is there (it is fetched from the "
            "Hub only with HF_HUB_OFFLINE=0 and HF_DATASETS_OFFLINE=0 in the environment)"
        ) from None
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"task {name!r} runs code that a model wrote, or is not of text alone; name another task")
    if tasks.metric.partition(",")[0] not in task.higher_is_better():
        raise _no_metric(name, tasks.metric, task.higher_is_better())
    if task.get_config("num_fewshot") == 0 and tasks.shots:
        raise ConfigError(f"task {name!r} is fixed at 0 examples in the prompt; set [downstream] shots = 0")
    task.set_config("num_fewshot", tasks.shots)
    return task


def _no_metric(name: str, metric: str, has: Sequence[str] | Mapping[str, object]) -> ConfigError:
    return ConfigError(
        f"task {name!r} has no one metric {metric!r}; it reports {_listed(sorted(has))}: set [downstream] metric to "
        "one that all tasks report"
    )


def _direction(tasks: Mapping[str, _Harness], metric: str) -> bool:
    """Tell whether higher is better. Raises `ConfigError` when tasks differ in it."""
    higher = {name: bool(task.higher_is_better()[metric.partition(",")[0]]) for name, task in tasks.items()}
    if len(set(higher.values())) > 1:
        raise ConfigError(
            f"metric {metric!r} is better when higher on {_listed([name for name in higher if higher[name]])} but when "
            f"lower on {_listed([name for name in higher if not higher[name]])}; give them a study each"
        )
    return all(higher.values())


def _requests_digest(name: str, task: _Harness, tasks: Tasks) -> str:
    """Digest what a task asks, prompts and answers: its data may lie outside the folder, or change on the Hub."""
    task.set_fewshot_seed(SEED)
    try:
        task.build_all_requests(limit=tasks.documents)
    except Exception as error:  # as for loading
        raise ConfigError(
            f"task {name!r} with {tasks.shots} examples in the prompt cannot be put together: {first_line(error)}; "
            "see that it has so many, or set fewer [downstream] shots"
        ) from None
    return digest_json([[repr(part.args), json.dumps(part.doc, default=str)] for part in task.instances])


def _file_digests(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    # the harness imports task code, which leaves compiled files behind
    return {name.as_posix(): digest_file(path) for name, path in files.items() if "__pycache__" not in name.parts}


def _score(name: str, task: _Harness, metric: str, result: Mapping[str, Any], samples: _Harness) -> _Score:
    has = [key for key in result if "," in key and "_stderr," not in key]
    found = [key for key in has if metric in (key, key.partition(",")[0])]
    if len(found) != 1:
        raise _no_metric(name, metric, has)
    if not _finite(samples):
        return _Score(math.nan, math.inf)  # the harness would take NaN for the likeliest choice
    base, _, used = found[0].partition(",")
    values = [sample[base] for sample in samples if sample["filter"] == used and base in sample]
    metrics = _harness("api.metrics")
    is_mean = task.aggregation().get(base) is metrics.mean and len(values) > 1
    return _Score(float(result[found[0]]), float(metrics.mean_stderr(values)) if is_mean else math.inf)


def _finite(samples: _Harness) -> bool:
    responses = (response for sample in samples for request in sample["resps"] for response in request)
    numbers = (response[0] if isinstance(response, tuple) else response for response in responses)
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


@contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Keep what the harness does to itself: no bars, log or prints, and global random states as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (task files use the global generators)
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            random.seed(PYTHON_SEED)
            np.random.seed(SEED)  # noqa: NPY002
            torch.manual_seed(SEED)
            yield
    finally:
        logger.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
