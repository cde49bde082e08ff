"""Arguments and options of several verbs, and how verbs open a study and print an answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar, runtime_checkable

import typer
from rich.console import Console

from pool.engines.choice import EngineName
from studies.terminal import console, print_json

if TYPE_CHECKING:
    from optuna import Study

    from studies.opened.on_pool import Workbench

PoolArgument = Annotated[Path, typer.Argument(metavar="POOL.toml", help="The pool file.")]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")]
TextRootOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", exists=True, file_okay=False, resolve_path=True, help="Folder of the corpus's files."),
]
TruthsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of truths measured elsewhere: ratios.csv and metrics.csv."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

NoiseOption = Annotated[float, typer.Option(min=0, max=1, help="Share of characters that the noise edits.")]

WorkersOption = Annotated[int | None, typer.Option(min=1, help="Number of workers side by side, one device each.")]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(help="Where workers run: as processes of this machine, or as tasks of a Ray cluster."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="auto|local|HOST:PORT", help="The Ray cluster; auto is this machine's own."),
]
CpusOption = Annotated[
    float | None,
    typer.Option("--num-cpus", min=0, help="CPUs of each worker: of a Ray node (by default one), or threads."),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--num-gpus", min=0, help="GPUs that each worker takes and sees; by default one, if there is any."),
]


Answer = TypeVar("Answer")


@runtime_checkable
class _HasJson(Protocol):
    def as_json(self) -> object: ...


def print_answer(answer: Answer, show: Callable[[Console, Answer], None], *, as_json: bool) -> None:
    """Print an answer, or a list of answers, as JSON, or as tables by `show`."""
    if not as_json:
        show(console(), answer)
    elif isinstance(answer, list):
        print_json([_json_of(one) for one in answer])
    else:
        print_json(_json_of(answer))


def _json_of(answer: object) -> object:
    return answer.as_json() if isinstance(answer, _HasJson) else answer


@contextmanager
def started_study(study_file: Path) -> Iterator["tuple[Workbench, Study]"]:
    """Open a study on a pool. Raises a `MixscoutError`, also when nobody started the study."""
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    with workbench(read_study_file(study_file), must_exist=True) as bench:
        yield bench, bench.known_study()
