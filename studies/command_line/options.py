"""Arguments and options of several verbs, and how verbs open a study and print an answer."""

import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from pool.engines.choice import EngineName
from pool.errors import ConfigError, MixscoutError, OutputError
from pool.files.secrets import without_passwords
from pool.progress import heard_by, say
from studies.terminal import console, loud_libraries, print_json

if TYPE_CHECKING:
    from studies.opened.on_pool import Workbench
    from studies.study_file.study_file import StudyFile


def _quieten(ctx: typer.Context, *, quiet: bool) -> bool:
    if quiet:
        ctx.find_root().with_resource(heard_by(lambda line: None))
    return quiet


def _tell_all(ctx: typer.Context, *, verbose: bool) -> bool:
    if verbose:
        ctx.find_root().with_resource(loud_libraries())
        ctx.find_root().with_resource(_traced())
    return verbose


@contextmanager
def _traced() -> Iterator[None]:
    """Print the traceback of an error that ends the block."""
    try:
        yield
    except (MixscoutError, OSError):
        say(without_passwords(traceback.format_exc().rstrip()))
        raise


QuietOption = Annotated[
    bool,
    typer.Option("--quiet", is_eager=True, callback=_quieten, help="Print the answer and errors alone, no progress."),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose", is_eager=True, callback=_tell_all, help="Also messages of libraries, and an error's traceback."
    ),
]
_SET, _OF_POOL = "set", "pool."


def _remember(ctx: typer.Context, assignments: list[str] | None) -> list[str] | None:
    ctx.meta[_SET] = tuple(assignments or ())
    return assignments


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        is_eager=True,
        callback=_remember,
        show_default="none",
        help="Another value for a key of the file, as in TOML: search.merges=60. A study's pool file is pool.KEY.",
    ),
]
_FILES = {"pool_file", "study_file", "study_files"}
_OF_EVERY_VERB = {"quiet": QuietOption, "verbose": VerboseOption}


class _PlainFlags:
    """A command or group whose help names no type after a flag."""

    def get_params(self, ctx: typer.Context) -> list[Any]:
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if getattr(one, "is_flag", False):
                one.metavar = ""
        return found


class PlainGroup(_PlainFlags, TyperGroup):
    """A group of verbs."""


class _Verb(_PlainFlags, TyperCommand):
    """A verb."""


class Verbs(typer.Typer):
    """Verbs that take --quiet and --verbose besides options of their own."""

    def __init__(self, **told: Any) -> None:
        super().__init__(cls=PlainGroup, **told)

    def command(self, name: str | None = None, **told: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        register = super().command(name, cls=_Verb, **told)

        def add(verb: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_common_options(verb))
            return verb

        return add


def _with_common_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of every verb, and --set beside a file; their callbacks do all their work."""
    own = inspect.signature(verb)
    more = dict(_OF_EVERY_VERB) if _FILES.isdisjoint(own.parameters) else {"assignments": SetOption, **_OF_EVERY_VERB}

    @functools.wraps(verb)
    def run(**values: Any) -> Any:
        return verb(**{name: value for name, value in values.items() if name in own.parameters})

    keyword = inspect.Parameter.KEYWORD_ONLY
    defaults = {name: None if name == "assignments" else False for name in more}
    common = [inspect.Parameter(name, keyword, default=defaults[name], annotation=kind) for name, kind in more.items()]
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *common])  # type: ignore[attr-defined]
    run.__annotations__ = {**verb.__annotations__, **more}
    return run


def renamed(old: str, new: str) -> Any:
    """Make a hidden option under an old name; its use is refused with the new name."""

    def refuse(value: str | None) -> None:
        if value is not None:
            raise ConfigError(f"{old} is called {new} here: --merges is the total budget of a study alone")

    return typer.Option(old, hidden=True, is_eager=True, callback=refuse)


def _assign(ctx: typer.Context, file: Path, assignments: tuple[str, ...]) -> None:
    """Put assignments over the content of a file until the command ends."""
    if assignments:
        from pool.files.toml import assigning  # pydantic would slow `--help` down

        ctx.find_root().with_resource(assigning({file: assignments}))


def _say_assigned(file: Path) -> None:
    from pool.files.toml import assigned

    for assignment in assigned(file):
        say(f"{file}: {assignment}, by --set")


def _pool_file(ctx: typer.Context, file: Path) -> Path:
    """Check a pool file and what --set makes of it, before torch loads. Raises `ConfigError`."""
    _assign(ctx, file, ctx.meta.get(_SET, ()))
    return _checked_pool_file(file)


def _checked_pool_file(file: Path) -> Path:
    from pool.config.pool_file import PoolFile
    from pool.files.toml import read_config

    read_config(file, PoolFile)
    _say_assigned(file)
    return file


def _study_file(ctx: typer.Context, file: Path) -> Path:
    """Check a study file, what it stands on and its database's address before torch loads. Raises `ConfigError`."""
    from objectives.stand_ins.swarm_table import check_there
    from studies.database.address import address_of
    from studies.study_file.study_file import read_study_file

    asked = ctx.meta.get(_SET, ())
    of_pool = tuple(one for one in asked if one.startswith(_OF_POOL))
    _assign(ctx, file, tuple(one for one in asked if one not in of_pool))
    config = read_study_file(file)
    _say_assigned(file)
    if config.pool is not None:
        _assign(ctx, config.pool, tuple(one.removeprefix(_OF_POOL) for one in of_pool))
        _checked_pool_file(config.pool)
    elif of_pool:
        raise ConfigError(f"{file}: the study is on a table and has no pool file (by --set {of_pool[0]})")
    if config.table is not None:
        check_there(config.table)
    address_of(config.database, file)
    return file


def checked_study_files(ctx: typer.Context, files: list[Path]) -> list[Path]:
    """Check several study files before torch loads. Raises `ConfigError`."""
    return [_study_file(ctx, file) for file in files]


PoolArgument = Annotated[Path, typer.Argument(metavar="POOL.toml", help="The pool file.", callback=_pool_file)]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.", callback=_study_file)]
TextRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        resolve_path=True,
        show_default="MIXSCOUT_TEXT_ROOT, or the pool file's",
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
    typer.Option("--output", metavar="DIR", show_default="ROOT/reports", help="Folder of the written files."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

NoiseOption = Annotated[float, typer.Option(min=0, max=1, help="Share of characters that the noise edits.")]

WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, show_default="this process alone", help="Number of workers side by side, one device each."),
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
        metavar="auto|local|HOST:PORT", show_default="auto", help="The Ray cluster; auto finds this machine's cluster."
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


def print_answer(answer: Answer, show: Callable[[Console, Answer], None], *, as_json: bool) -> None:
    """Print an answer as JSON, or as tables by `show`."""
    if as_json:
        print_json(answer)
    else:
        show(console(), answer)


def read_study(study_file: Path) -> "StudyFile":
    """Read and check a study file, and the goal on a table, before anything heavy loads. Raises `ConfigError`."""
    from studies.opened.goal import check_table
    from studies.study_file.study_file import read_study_file

    config = read_study_file(study_file)
    check_table(config)
    return config


def folder_of_files(output: Path | None, reports: Path) -> Path | None:
    """Return the folder of a verb's files; None, with a line, where the root is read-only and `output` is not given.

    Raises `OutputError` for an `output` that may not be written.
    """
    from pool.files.whole import may_write  # NumPy would slow `--help` down

    folder = output or reports
    if may_write(folder / "file"):
        return folder
    if output is not None:
        raise OutputError(f"--output {output} may not be written by this user; name another folder")
    say(f"{reports} may not be written by this user, so no files are written; name another folder with --output")
    return None


def pool_bench(study_file: Path, *, must_exist: bool = True) -> "AbstractContextManager[Workbench]":
    """Open a study on a pool; with `must_exist`, make no database. Raises a `MixscoutError` of the thing at fault."""
    from studies.opened.on_pool import workbench
    from studies.study_file.study_file import read_study_file

    return workbench(read_study_file(study_file), must_exist=must_exist)
