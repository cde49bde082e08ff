"""What every verb shares on the command line: arguments, the console, JSON, and libraries kept quiet."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

PoolArgument = Annotated[Path, typer.Argument(metavar="POOL.toml", help="The pool file.")]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file.")]
TextRootOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", exists=True, file_okay=False, resolve_path=True, help="Folder that the corpus's files are in."
    ),
]
TruthsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Truths measured elsewhere: a folder with ratios.csv and metrics.csv."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def console() -> Console:
    """Make the console of answers: as wide as the terminal, or fixed where there is none."""
    wide = None if sys.stdout.isatty() else 120
    return Console(width=wide, highlight=False, markup=False)


def print_json(value: object) -> None:
    """Print one JSON object to stdout."""
    from studies.json_text import json_text

    print(json_text(value))


def quiet_libraries() -> None:
    """Keep libraries from talking over our progress, from looking for a network, and from telling it who asks."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", os.environ["HF_HUB_OFFLINE"])
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets
    import optuna
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
