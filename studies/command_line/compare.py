"""The verb `compare`. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pool.errors import ConfigError
from studies.terminal import JsonOption, console, print_json, quiet_libraries

if TYPE_CHECKING:
    from studies.assessment.comparison.comparison import Comparison

DEFAULT_STRATEGIES = "auto,tpe,gp,random"
DEFAULT_SEEDS = 5
DEFAULT_MERGES = 100

Files = Annotated[
    list[Path], typer.Argument(metavar="STUDY.toml...", help="One study file, or several of studies already run.")
]
Strategies = Annotated[
    str | None, typer.Option(metavar="NAME,...", help=f"Who competes. [default: {DEFAULT_STRATEGIES}]")
]
Seeds = Annotated[int | None, typer.Option(min=1, help=f"Searches of each strategy. [default: {DEFAULT_SEEDS}]")]
Merges = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Budget of each search in forward-equivalents: merges, of which one with its gradient counts three. "
        f"[default: {DEFAULT_MERGES}]",
    ),
]


def add_comparison_verb(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(
        epilog="Examples: `mixscout compare study.toml --strategies auto,tpe`, `mixscout compare a.toml b.toml`"
    )(compare)


def compare(
    study_files: Files,
    strategies: Strategies = None,
    seeds: Seeds = None,
    merges: Merges = None,
    as_json: JsonOption = False,
) -> None:
    """Compare strategies on a study at equal budgets, over several seeds; or studies that have been run.

    Asked again, it goes on: after a kill, with more seeds, strategies or merges. Writes a picture and a CSV file into
    the folder `reports` beside the study's database.
    """
    quiet_libraries()
    from studies.assessment.comparison.csv_file import write_comparison
    from studies.assessment.comparison.picture import draw_comparison
    from studies.assessment.comparison.table import show_comparison

    if len(study_files) > 1:
        if strategies or seeds or merges:
            raise ConfigError(
                "--strategies, --seeds and --merges are for one study file; several are compared as they are"
            )
        comparison, stem = _studies(study_files)
    else:
        names = _parsed(strategies or DEFAULT_STRATEGIES)
        comparison, stem = _strategies(study_files[0], names, seeds or DEFAULT_SEEDS, merges or DEFAULT_MERGES)
    picture = draw_comparison(comparison, stem.with_name(f"{stem.name}.png"))
    table = write_comparison(comparison, stem.with_name(f"{stem.name}.csv"))
    if as_json:
        print_json(comparison.as_json() | {"picture": str(picture), "table": str(table)})
        return
    show_comparison(console(), comparison)
    console().print(f"picture: {picture}\ntable: {table}", soft_wrap=True)


def _strategies(study_file: Path, names: list[str], seeds: int, merges: int) -> tuple[Comparison, Path]:
    from studies.assessment.comparison.strategies import compare_strategies
    from studies.opened.opening import open_study
    from studies.study_file.study_file import read_study_file

    config = read_study_file(study_file)
    with open_study(config) as bench:
        comparison = compare_strategies(bench, names, seeds, merges)
        return comparison, bench.root / "reports" / f"{config.name}.compare"


def _studies(study_files: list[Path]) -> tuple[Comparison, Path]:
    from studies.assessment.comparison.studies import compare_studies

    comparison, reports = compare_studies(study_files)
    names = "-".join(one.name for one in comparison.contenders)
    return comparison, reports / f"{names}.compare"


def _parsed(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name or names.count(name) > 1:
            raise ConfigError(f"--strategies: {name!r} is given twice or empty in {text!r}; name every strategy once")
    return names
