"""Groups of verbs whose options are alike: --quiet and --verbose everywhere, and --set beside a file."""

import functools
import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from pool.errors import ConfigError, MixscoutError, StorageError
from pool.files.secrets import without_passwords
from pool.progress import heard_by, say
from studies.terminal import loud_libraries


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
SET, OF_POOL = "set", "pool."
"""The place of assignments in a command's context, and the beginning of the keys of a study's pool file."""


def _remember(ctx: typer.Context, assignments: list[str] | None) -> list[str] | None:
    ctx.meta[SET] = tuple(assignments or ())
    return assignments


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        is_eager=True,
        callback=_remember,
        show_default="none",
        help="Another value for a key of the file, in TOML's form. A key of a study's pool file is pool.KEY.",
    ),
]
_FILES = {"pool_file", "study_file", "study_files"}
_OF_EVERY_VERB = {"quiet": QuietOption, "verbose": VerboseOption}


def _without_type_of_flags(parameters: list[Any]) -> list[Any]:
    for one in parameters:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return parameters


INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


class PlainGroup(TyperGroup):
    """A group of verbs whose help names no type after a flag.

    Ctrl-C in a verb is answered by what is kept, and by the command that goes on.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_type_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            notes = getattr(stop, "__notes__", []) or ["what was finished is kept"]
            say(f"stopped by Ctrl-C; {'; '.join(notes)}")
            say(f"the same command goes on from there: {shlex.join(['mixscout', *sys.argv[1:]])}")
            raise typer.Exit(INTERRUPTED) from None


class _Verb(TyperCommand):
    """A verb whose help names no type after a flag. Its end, whatever it is, goes into a ledger of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_type_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        finally:
            if not isinstance(sys.exception(), StorageError):  # the ledger is in that database
                _charge(ctx)


ONLY_READ = {"pool show", "pool overlap", "pool units", "prior", "cost", "report", "dashboard"}
"""Verbs that leave no entry in a ledger, beside benchmarks and dry runs."""


def _charge(ctx: typer.Context) -> None:
    """Charge the study or the pool of a verb with its process; `demo` divides its own among both."""
    verb, given = " ".join(ctx.command_path.split()[1:]), ctx.params
    files = [given.get(name) for name in ("pool_file", "study_file")] + list(given.get("study_files") or ())
    file = next(filter(None, files), None)
    if file is None or verb in ONLY_READ or verb.startswith("bench") or given.get("dry_run"):
        return
    from studies.opened.ledger import charge_process  # heavy

    charge_process(verb, file, to_pool="pool_file" in given)


_Function = TypeVar("_Function", bound=Callable[..., Any])


class Verbs(typer.Typer):
    """Verbs that take --quiet and --verbose besides options of their own."""

    def __init__(self, **told: Any) -> None:
        super().__init__(cls=PlainGroup, **told)

    def command(self, name: str | None = None, **told: Any) -> Callable[[_Function], _Function]:
        register = super().command(name, cls=_Verb, **told)

        def add(verb: _Function) -> _Function:
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
