"""The command line: the verbs in the order of the help, from building a pool to using an answer.

Answers go to stdout, progress to stderr. Heavy imports stand inside the verbs, so `--help` answers at once.
"""

import atexit
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pool.engines.resources import device_fault
from pool.errors import MixscoutError, OutputError
from pool.files.secrets import without_passwords
from pool.files.streams import prepare_streams, settle
from pool.progress import say
from studies.command_line.answers import answer_verbs
from studies.command_line.assessment import assessment_verbs
from studies.command_line.bench import bench_verbs
from studies.command_line.outcome import outcome_verbs
from studies.command_line.pool import pool_verbs
from studies.command_line.search import search_verbs
from studies.command_line.verbs import QuietOption, VerboseOption, Verbs
from studies.terminal import console, quiet_libraries

app = Verbs(
    help="Find the best data mixture for a language model without training on every mixture.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        console().print(f"mixscout {version_of('mixscout')}")
        raise typer.Exit


@app.command(epilog="Example: `mixscout demo --root runs/demo`")
def demo(
    root: Annotated[Path, typer.Option(help="Folder for pool, database and picture.")] = Path("mixscout-demo"),
) -> None:
    """Do the whole job on real text found in the Python installation: pool, study, confirmation, picture."""
    quiet_libraries()
    from studies.command_line.demo import run_demo

    run_demo(root.resolve(), console())


app.add_typer(pool_verbs, name="pool")
app.add_typer(search_verbs)
app.add_typer(answer_verbs)
app.add_typer(assessment_verbs)
app.add_typer(outcome_verbs)
app.add_typer(bench_verbs, name="bench")


def main() -> None:
    """Run the command line. A `MixscoutError`, a GPU's fault or a file error is one line and exit code 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: threads that spin starve other work
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads: its threads spin too, on small matrices
    atexit.register(gc.freeze)  # what is left at the exit need not be searched for cycles: a fifth of a short answer
    try:
        prepare_streams()
        try:
            app(prog_name="mixscout")
        finally:
            settle()
    except MixscoutError as error:
        _fail(str(error))
    except RuntimeError as error:
        if (fault := device_fault(error)) is None:
            raise
        _fail(fault)
    except OSError as error:
        what = "standard output or a file" if error.filename is None else error.filename
        remedy = "see that there is room and that it can be read and written, and run the command again"
        _fail(f"{what}: {error.strerror or error}; {remedy}")


def _fail(line: str) -> None:
    say(f"mixscout: {without_passwords(line)}")
    with suppress(OutputError):  # an earlier error is the better answer
        settle()
    sys.exit(1)


if __name__ == "__main__":
    main()
