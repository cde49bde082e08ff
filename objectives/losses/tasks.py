"""Tasks of lm-evaluation-harness: loaded, checked and digested.

The harness is an extra, imported at the first call, so its values are `Any`. Tasks draw from global random generators:
`aside` sets their states before every use.
"""

import difflib
import importlib
import io
import json
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pool.errors import ConfigError, first_line
from pool.files.digests import digest_file, digest_json

PYTHON_SEED = 0
HARNESS_SEED = 1234
"""Seeds of Python, and of NumPy, torch and prompt examples: the harness's own, so that its command agrees."""


@dataclass(frozen=True)
class Tasks:
    """Tasks of the harness, and how they are asked.

    folder: the user's task files, which win over the harness's tasks of the same name
    metric: a metric's name, or `name,filter` for a task of several filters
    shots: examples in the prompt
    documents: most documents of each task; None is all

    A task's data files are absolute, or relative to the working directory. Raises `ConfigError` for a repeated name.
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


def harness(module: str) -> ModuleType:
    """Import a module of the harness. Raises `ConfigError` without the extra."""
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"[downstream] needs lm-evaluation-harness ({error}); run `pip install 'mixscout[lm-eval]'`"
        ) from None


def load_tasks(tasks: Tasks) -> dict[str, Any]:
    """Load and check every task. Raises `ConfigError`."""
    if tasks.folder is not None and not tasks.folder.is_dir():
        raise ConfigError(f"[downstream] task_folder {tasks.folder} is no folder; give the folder of your task files")
    manager = _manager(tasks)
    for name in tasks.names:
        _check_is_task(name, manager, tasks.folder)
    return {name: _loaded(name, manager, tasks) for name in tasks.names}


def _manager(tasks: Tasks) -> Any:
    """Index the user's tasks, and the harness's only if these do not suffice: that takes seconds."""
    task_manager = harness("tasks").TaskManager
    if tasks.folder is not None:
        own = task_manager(include_path=tasks.folder, include_defaults=False)
        if set(tasks.names) <= set(own.all_tasks):
            return own
    return task_manager(include_path=tasks.folder)


def _check_is_task(name: str, manager: Any, folder: Path | None) -> None:
    if name in manager.all_subtasks:
        return
    entry = manager.task_index.get(name)
    if entry is not None:
        parts = [part if isinstance(part, dict) else {"task": part} for part in (entry.cfg or {}).get("task", [])]
        members = sorted(entry.tags) or [str(part.get("task") or part.get("group")) for part in parts]
        raise ConfigError(f"{name!r} is a group of tasks; name its tasks in [downstream] tasks: {listed(members)}")
    where = f"in {folder} (*.yaml) or in the harness" if folder else "in the harness"
    close = difflib.get_close_matches(name, manager.all_subtasks, n=3)
    hint = f"the nearest names are {listed(close)}" if close else "`lm-eval ls tasks` lists the harness's"
    raise ConfigError(f"no task {name!r} {where}; {hint}; for tasks of your own set [downstream] task_folder")


def _loaded(name: str, manager: Any, tasks: Tasks) -> Any:
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
        raise no_metric(name, tasks.metric, task.higher_is_better())
    if task.get_config("num_fewshot") == 0 and tasks.shots:
        raise ConfigError(f"task {name!r} is fixed at 0 examples in the prompt; set [downstream] shots = 0")
    task.set_config("num_fewshot", tasks.shots)
    return task


def no_metric(name: str, metric: str, has: Iterable[str]) -> ConfigError:
    """Make the error for a task without the metric."""
    return ConfigError(
        f"task {name!r} has no one metric {metric!r}; it reports {listed(sorted(has))}: set [downstream] metric to "
        "one that all tasks report"
    )


def higher_is_better(tasks: Mapping[str, Any], metric: str) -> bool:
    """Tell whether higher is better. Raises `ConfigError` for tasks that differ."""
    higher = {name: bool(task.higher_is_better()[metric.partition(",")[0]]) for name, task in tasks.items()}
    if len(set(higher.values())) > 1:
        raise ConfigError(
            f"metric {metric!r} is better when higher on {listed([name for name in higher if higher[name]])} but when "
            f"lower on {listed([name for name in higher if not higher[name]])}; give them a study each"
        )
    return all(higher.values())


def requests_digest(name: str, task: Any, tasks: Tasks) -> str:
    """Digest prompts and answers of a task: its data may lie outside the folder, or change on the Hub."""
    task.set_fewshot_seed(HARNESS_SEED)
    try:
        task.build_all_requests(limit=tasks.documents)
    except Exception as error:  # as for loading
        raise ConfigError(
            f"task {name!r} with {tasks.shots} examples in the prompt cannot be put together: {first_line(error)}; "
            "see that it has so many, or set fewer [downstream] shots"
        ) from None
    return digest_json([[repr(part.args), json.dumps(part.doc, default=str)] for part in task.instances])


def file_digests(folder: Path | None) -> dict[str, str]:
    """Digest the user's task files by name."""
    if folder is None:
        return {}
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    # the harness imports task code, which leaves compiled files behind
    return {name.as_posix(): digest_file(path) for name, path in files.items() if "__pycache__" not in name.parts}


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """Silence the harness, seed the global random generators, and restore them afterwards."""
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
            np.random.seed(HARNESS_SEED)  # noqa: NPY002
            torch.manual_seed(HARNESS_SEED)
            yield
    finally:
        logger.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def listed(names: Sequence[str]) -> str:
    """List the first eight names."""
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
