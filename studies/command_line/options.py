"""Arguments and options of several verbs, and how verbs open a study and print an answer."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from pool.engines.choice import EngineName
from pool.errors import ConfigError
from pool.files.secrets import without_passwords
from pool.progress import heard_by, say
from studies.command_line.verbs import OF_POOL, SET
from studies.terminal import console, print_costs, print_json, print_next

if TYPE_CHECKING:
    from pool.building.training.costs import Costs
    from studies.opened.on_pool import Workbench
    from studies.study_file.study_file import StudyFile


def _assign(ctx: typer.Context, file: Path, assignments: tuple[str, ...]) -> None:
    """Put assignments over the content of a file until the command ends."""
    if assignments:
        from pool.files.toml import assigning  # pydantic would slow `--help` down

        ctx.find_root().with_resource(assigning({file: assignments}))


def _say_assigned(file: Path) -> None:
    from pool.files.toml import assigned

    for assignment in assigned(file):
        say(without_passwords(f"{file}: {assignment}, by --set"))


def _pool_file(ctx: typer.Context, file: Path) -> Path:
    """Check a pool file and what --set makes of it, before torch loads. Raises `ConfigError`."""
    _assign(ctx, file, ctx.meta.get(SET, ()))
    return _checked_pool_file(file)


def _checked_pool_file(file: Path) -> Path:
    from pool.files.toml import read_config, read_table

    read_table(file)  # a missing file is said before the sections load
    from pool.config.pool_file import PoolFile

    read_config(file, PoolFile)
    _say_assigned(file)
    return file


def _study_file(ctx: typer.Context, file: Path) -> Path:
    """Check a study file, what it stands on and its database's address before torch loads. Raises `ConfigError`."""
    from pool.files.toml import read_table

    read_table(file)
    from studies.database.address import address_of
    from studies.study_file.study_file import read_study_file

    asked = ctx.meta.get(SET, ())
    of_pool = tuple(one for one in asked if one.startswith(OF_POOL))
    _assign(ctx, file, tuple(one for one in asked if one not in of_pool))
    config = read_study_file(file)
    _say_assigned(file)
    config.check_pool_there()
    if config.pool is not None:
        _assign(ctx, config.pool, tuple(one.removeprefix(OF_POOL) for one in of_pool))
        _checked_pool_file(config.pool)
    elif of_pool:
        raise ConfigError(f"{file}: the study is on a table and has no pool file (by --set {of_pool[0]})")
    if config.table is not None:
        from objectives.stand_ins.scales import check_scales_there

        check_scales_there(config.table, config.scales)
    address_of(config.database, file)
    return file


def checked_study_files(ctx: typer.Context, files: list[Path]) -> list[Path]:
    """Check several study files before torch loads. Raises `ConfigError`."""
    return [_study_file(ctx, file) for file in files]


def writable_folder(folder: Path | None) -> Path | None:
    """Check the place of files before the work that they are to hold. Raises `OutputError`."""
    if folder is not None:
        from pool.files.whole import check_place  # NumPy would slow `--help` down

        check_place(folder)
    return folder


def _beside(file: Path | None) -> Path | None:
    if file is not None:
        writable_folder(file.parent)
    return file


PoolArgument = Annotated[Path, typer.Argument(metavar="POOL.toml", help="The pool file.", callback=_pool_file)]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.", callback=_study_file)]
TextRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        resolve_path=True,
        show_default="by environment or pool file",
        help="Folder of the corpus's files.",
    ),
]
TruthsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", show_default="none", help="Folder of truths measured elsewhere: ratios.csv and metrics.csv."
    ),
]
FilesOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        show_default="ROOT/reports",
        help="Folder of the written files.",
        callback=writable_folder,
    ),
]
FiguresFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", show_default="none", help="Also keep figures here.", callback=_beside),
]
Picture = Annotated[
    Path | None,
    typer.Option(metavar="PNG", show_default="none", help="Also draw a picture into this file.", callback=_beside),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Measure a few steps, print what the command would cost, and do nothing else."),
]
NoiseOption = Annotated[float, typer.Option(min=0, max=1, help="Share of characters that the noise edits.")]

WORKERS_HELP = "Number of workers side by side, one device each."
WorkersOption = Annotated[
    int | None, typer.Option(min=1, show_default="one; a core each for small models", help=WORKERS_HELP)
]
EngineOption = Annotated[
    EngineName | None,
    typer.Option(
        show_default="processes",
        help="Where workers run: as processes of this machine, or as tasks of a Ray cluster.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="CLUSTER", show_default="auto", help="The Ray cluster: auto (this machine's), local, or HOST:PORT."
    ),
]
CpusOption = Annotated[
    float | None,
    typer.Option(
        "--num-cpus", min=0, show_default="the recipe's", help="CPUs of each worker: of a Ray node, or threads."
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--num-gpus", min=0, show_default="the recipe's, or one if there is any", help="GPUs of each worker."),
]


Answer = TypeVar("Answer")


Next = tuple[str, Path | None, str]
"""What to do after a verb: another verb with its options, its file (None for one of the user's), and what it does."""


def print_answer(
    answer: Answer, show: Callable[[Console, Answer], None], *, as_json: bool, then: Next | None = None
) -> None:
    """Print an answer as JSON, or as tables by `show`, with the next command last."""
    if as_json:
        print_json(answer)
        return
    show(console(), answer)
    if then is not None:
        tell_next(*then)


def tell_next(verb: str, file: Path | None, what: str, *, more: str = "") -> None:
    """Print the next command on a study file, with `more` behind the file, and what the command does."""
    from studies.study_file.study_file import read_study_file

    typed = "STUDY.toml"
    if file is not None:
        with heard_by(lambda line: None):  # what the file has to say was said
            typed = read_study_file(file).typed
    print_next(" ".join(filter(None, ("mixscout", verb, typed, more))), what)


def read_study(study_file: Path) -> "StudyFile":
    """Read and check a study file, and the goal on a table, before anything heavy loads. Raises `ConfigError`."""
    from studies.opened.goal import check_table
    from studies.study_file.study_file import read_study_file

    config = read_study_file(study_file)
    check_table(config)
    return config


def folder_of_files(output: Path | None, reports: Path) -> Path | None:
    """Return the folder of a verb's files; None, with a line, where the root is read-only and `output` is not given."""
    from pool.files.whole import may_write  # NumPy would slow `--help` down

    if output is not None or may_write(reports / "file"):
        return output or reports
    say(f"{reports} may not be written by this user, so no files are written; name another folder with --output")
    return None


def print_study_costs(costs: "Costs", opening: float, *, as_json: bool) -> None:
    """Print the costs of a verb, `opening` seconds of it until its study was open. Raises `PoolError`."""
    print_costs(costs.beginning_with("start, pool and study opened", opening), as_json=as_json)


@contextmanager
def private_pool_bench(study_file: Path) -> "Iterator[Workbench]":
    """Open a started study on a pool in a temporary folder, to be forgotten. Raises a `MixscoutError`."""
    from studies.opened.on_pool import workbench

    config = read_study(study_file)
    with (
        TemporaryDirectory(prefix="mixscout-private-", ignore_cleanup_errors=True) as folder,
        workbench(config, must_exist=True, writes=True, private=Path(folder)) as bench,
    ):
        yield bench


def pool_bench(study_file: Path, *, must_exist: bool = True) -> "AbstractContextManager[Workbench]":
    """Open a study on a pool; with `must_exist`, make no database. Raises a `MixscoutError` of the thing at fault."""
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    return workbench(read_study_file(study_file), must_exist=must_exist)


def study_files_of(pool_file: Path) -> list[Path]:
    """List the TOML files beside a pool file that name it as their pool, by name; unreadable ones are passed over."""
    found = []
    for path in sorted(pool_file.parent.glob("*.toml")):
        with suppress(OSError, ValueError):  # ValueError: no TOML, or no UTF-8
            named = tomllib.loads(path.read_text(encoding="utf-8")).get("pool")
            if isinstance(named, str) and (path.parent / named).resolve() == pool_file.resolve():
                found.append(path)
    return found
